"""Grouped products of all experts at once give what calling the experts one after another gives."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.config import ModelConfig
from models.transformer import experts
from models.transformer.experts import MixtureOfExperts


def layer(**changes: Any) -> MixtureOfExperts:
    """Return experts of which the third is never chosen."""
    torch.manual_seed(3)
    shape = {"layers": 1, "heads": 2, "width": 16, "ffn_width": 24, "moe": {"experts": 4, "top_k": 2}, **changes}
    made = MixtureOfExperts(ModelConfig.model_validate(shape))
    with torch.no_grad():
        made.router.weight[2] = 0
        made.router.weight[2, 0] = -100
    return made


def read(made: MixtureOfExperts) -> tuple[Tensor, dict[str, Tensor]]:
    """Return what it makes of some positions, and the gradients of all that it has."""
    made.zero_grad()
    x = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1)).abs().requires_grad_()
    y, _ = made(x)
    (y.float() * torch.randn(y.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    grads = {name: parameter.grad.clone() for name, parameter in made.named_parameters() if parameter.grad is not None}
    return y.detach(), {**grads, "x": x.grad.clone()}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "shape",
    [{}, {"activation": "relu2", "bias": True}, {"family": "encoder_decoder", "activation": "relu", "dropout": 0.4}],
    ids=["gated", "biased", "dropping"],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16_autocast"])
def test_all_at_once_is_one_after_another(
    shape: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = layer(**shape)
    found = []
    for grouped in (False, True):
        monkeypatch.setattr(MixtureOfExperts, "_grouped", lambda *_, grouped=grouped: grouped)
        if shape.get("dropout"):
            # What is drawn follows the order of the calls: here it is the same for each row, whenever it is drawn.
            thirds = (torch.arange(24) % 3 != 0).float()
            monkeypatch.setattr(nn.functional, "dropout", lambda x, *_, thirds=thirds: x * thirds.to(x))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32"):
            found.append(read(made))
    (plain, plain_grads), (grouped_y, grouped_grads) = found
    near = 1e-5 if precision == "fp32" else 2e-2
    assert plain.abs().max() > 0.1
    torch.testing.assert_close(grouped_y, plain, rtol=near, atol=near)
    never = {name for name in plain_grads if ".2." in name}
    assert all(not plain_grads[name].any() for name in never)
    for name in plain_grads.keys() | grouped_grads.keys():
        torch.testing.assert_close(grouped_grads[name], plain_grads[name], rtol=near, atol=near)


def test_grouped_products_are_for_bf16_where_there_is_a_kernel_and_weights_are_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.zeros(4, 16, dtype=torch.bfloat16)
    made = layer()
    assert not made._grouped(x)  # on a CPU
    monkeypatch.setattr(experts, "_has_grouped_products", lambda device: True)
    assert made._grouped(x)
    assert not made._grouped(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert made._grouped(x.float())
    assert not layer(ffn_width=20)._grouped(x)
    next(made.experts.parameters()).ds_id = 7  # type: ignore[attr-defined]  # as DeepSpeed marks what it has cut up
    assert not made._grouped(x)
