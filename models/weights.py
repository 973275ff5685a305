"""A network's first weights, from a file or drawn by the seed, one at a time.

Where ranks hold a share of a network each, none of them has room for the whole.  So it is made with the shapes of its
matrices and no memory for them, and each of them is there only while its owners take their share of it.
"""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from models.config import ModelConfig
from models.transformer import Transformer
from models.transformer.initialisation import Draw, draws


def load_weights(network: Transformer, path: Path) -> None:
    """Put the weights of a model.safetensors into a network of its shape; a tied head is not among them.

    Raises ValueError where they are not those of the network.
    """
    for name, whole in _read(path, dict(network.named_parameters())):
        with torch.no_grad():
            network.get_parameter(name).copy_(whole)


def hollow_network(cfg: ModelConfig, vocab_size: int) -> Transformer:
    """Return a network whose matrices have shapes and no memory.

    It leaves the random generator where making and not yet drawing the whole would: each matrix is made, one by one.
    """
    with _dropping_matrices():
        return Transformer(cfg, vocab_size, drawn=False)


def first_weights(network: Transformer, path: Path | None) -> Iterator[tuple[str, Tensor]]:
    """Yield the first weights of a hollow network, one at a time, by name and in fp32 on the CPU.

    Each is gone when the next is asked for: all of them are in one place in turn, as memory that is given back piece by
    piece between what is kept is lost to the process.

    They are those of the file, else what `Transformer` draws, bit for bit; norms, which nothing draws, are left out.
    What of the network may go is dropped after the call and before the first weight is asked for.
    """
    parameters = dict(network.named_parameters())
    place = torch.empty(max(p.numel() for p in parameters.values()))
    if path is not None:
        return ((name, _put(place, whole.shape).copy_(whole)) for name, whole in _read(path, parameters))
    planned = [(name, network.get_parameter(name).shape, draw) for name, draw in draws(network)]
    return _drawn(place, planned, set(parameters))


def _put(place: Tensor, shape: torch.Size) -> Tensor:
    return place[: shape.numel()].view(shape)


def _drawn(
    place: Tensor, planned: Iterable[tuple[str, torch.Size, Draw]], wanted: set[str]
) -> Iterator[tuple[str, Tensor]]:
    for name, shape, draw in planned:
        whole = _put(place, shape)
        draw(whole)
        if name in wanted:  # a tied head is drawn, as the generator goes on from there, but is another's
            yield name, whole


def _read(path: Path, parameters: dict[str, nn.Parameter]) -> Iterator[tuple[str, Tensor]]:
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    with safe_open(path, framework="pt") as file:
        if sorted(shapes) != sorted(file.keys()):
            differ = sorted(set(shapes) ^ set(file.keys()))
            raise ValueError(f"{path} has other weights than the network: {', '.join(differ[:3])}")
        for name, shape in shapes.items():
            whole = file.get_tensor(name)
            if tuple(whole.shape) != shape:
                raise ValueError(f"{path}: {name} is {tuple(whole.shape)}, not {shape}")
            yield name, whole


@contextlib.contextmanager
def _dropping_matrices() -> Iterator[None]:
    """Let each module made within draw what it draws, and keep no memory for its matrices."""

    def drop(_parent: nn.Module, _name: str, module: nn.Module | None) -> None:
        for p in module.parameters() if module is not None else ():
            if p.ndim > 1:
                p.data = p.data.new_zeros(()).expand(p.shape)

    hook = register_module_module_registration_hook(drop)
    try:
        yield
    finally:
        hook.remove()
