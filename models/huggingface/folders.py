"""Whole folders of transformers: written from a model artifact, and read into one.

config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json  special_tokens_map.json
and, of some models, chat_template.jinja
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from infra.errors import DataError, UserError
from models.config import ModelConfig
from models.huggingface.architectures import Architecture, architecture_for, named
from models.huggingface.configs import read_config, write_config
from models.huggingface.special_tokens import SpecialTokens
from models.huggingface.weights import to_ours, to_theirs
from models.transformer import Transformer

CHAT_TEMPLATE: Final = "chat_template.jinja"
TOKENIZER_FILES: Final = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", CHAT_TEMPLATE)
OBJECTIVES: Final = {"decoder": "causal", "encoder": "masked", "encoder_decoder": "denoising"}
LARGEST_DIFFERENCE: Final = 1e-3
"""Of logits, between the two implementations in fp32, beyond which an export is refused."""
_AUTO: Final = {
    "decoder": "AutoModelForCausalLM",
    "encoder": "AutoModelForMaskedLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}


def export_folder(artifact: Path, destination: Path, *, check: bool = True) -> str:
    """Write the model of an artifact as a folder that transformers loads, and return the class that loads it.

    With `check` it is loaded, and its logits are held against ours.  Raises UserError where no architecture computes
    the model, DataError where the logits differ.
    """
    about = json.loads((artifact / "config.json").read_bytes())
    cfg = ModelConfig.model_validate(about["model"])
    architecture = architecture_for(cfg)
    ours = load_file(artifact / "model.safetensors")
    destination.mkdir(parents=True, exist_ok=True)
    save_file(to_theirs(architecture.model_type, cfg, ours), destination / "model.safetensors", {"format": "pt"})
    special = SpecialTokens.of_artifact(
        about, _optional(artifact / "tokenizer.json"), _optional(artifact / "special_tokens_map.json")
    )
    config = write_config(architecture.model_type, cfg, vocab_size=about["vocab_size"], tokens=special)
    head = {"architectures": [architecture.model_class], "model_type": architecture.model_type}
    _write(destination / "config.json", {**head, "dtype": "float32", **config})
    if cfg.family != "encoder":
        generation = special.ids(cfg.family)
        _write(
            destination / "generation_config.json", {**generation, "do_sample": True, "temperature": 0.8, "top_k": 50}
        )
    for name in TOKENIZER_FILES:
        if (artifact / name).is_file():
            shutil.copyfile(artifact / name, destination / name)
    if check:
        _check(destination, network_of(cfg, about["vocab_size"], ours), architecture)
    return _AUTO[cfg.family]


def network_of(cfg: ModelConfig, vocab_size: int, weights: dict[str, Tensor]) -> Transformer:
    """Return the network with these weights; a tied head is not among them."""
    network = Transformer(cfg, vocab_size)
    if cfg.tied_embeddings:
        weights = {**weights, "lm_head.weight": weights["embed.weight"]}
    network.load_state_dict(weights)
    return network.eval()


@torch.inference_mode()
def _check(folder: Path, network: Transformer, architecture: Architecture) -> None:
    """Raise DataError unless transformers makes the same logits of some tokens."""
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loaded: Any = getattr(transformers, _AUTO[network.cfg.family]).from_pretrained(folder, dtype=torch.float32)
    length = min(32, network.cfg.sequence_length)
    tokens = torch.randint(0, network.vocab_size, (2, length), generator=torch.Generator().manual_seed(0))
    if network.cfg.family == "encoder_decoder":
        written = tokens.flip(1)
        theirs = loaded.eval()(input_ids=tokens, decoder_input_ids=written).logits
        ours = network.logits(written, source_BS=tokens)
    else:
        theirs, ours = loaded.eval()(input_ids=tokens).logits, network.logits(tokens)
    difference = float((theirs - ours).abs().max())
    if not difference <= LARGEST_DIFFERENCE:
        raise DataError(
            f"{folder}: logits of transformers' {architecture.model_class} differ from ours by up to {difference:.3g}, "
            f"more than {LARGEST_DIFFERENCE:g}"
        )


def import_folder(folder: Path, destination: Path) -> dict[str, Any]:
    """Write the files of a model artifact from a folder of transformers, and return its config.json.

    Raises UserError where a file is missing or cannot be read, or the model is none that the network computes.
    """
    config = _read(folder / "config.json")
    architecture = named(str(config.get("model_type")))
    tensors = _tensors(folder)
    if architecture.model_type == "t5" and _has_own_head(tensors):
        config["tie_word_embeddings"] = False
    cfg = read_config(architecture.model_type, config)
    weights = to_ours(architecture.model_type, cfg, tensors)
    vocab_size = config.get("vocab_size")
    if type(vocab_size) is not int:
        raise UserError(f"{folder}: its config.json does not say vocab_size, a whole number")
    if (rows := len(weights["embed.weight"])) != vocab_size:
        raise UserError(f"{folder}: config.json says vocab_size={vocab_size}, its embedding has {rows} rows")
    about = {
        "architecture": cfg.family,
        "objective": {"kind": OBJECTIVES[cfg.family]},
        "vocab_size": vocab_size,
        **_special_tokens(folder, config, family=cfg.family, vocab_size=vocab_size).about(),
        "model": cfg.model_dump(),
    }
    try:
        network_of(cfg, vocab_size, weights)
    except RuntimeError as exc:  # every tensor has its place already; of some the shape is another one
        differs = str(exc).strip().splitlines()[-1].strip().rstrip(".")
        raise UserError(f"{folder}: its weights are not of the shape that config.json says: {differs}") from exc
    save_file(weights, destination / "model.safetensors", {"format": "pt"})
    _write(destination / "config.json", about)
    if not (folder / "tokenizer.json").is_file():
        raise UserError(f"{folder}: tokenizer.json is missing; save its tokenizer as a fast one with transformers")
    _write_tokenizer(folder, destination)
    return about


def _write_tokenizer(folder: Path, destination: Path) -> None:
    """Copy the tokenizer, and write what newer releases of transformers no longer do: which tokens are special."""
    shutil.copyfile(folder / "tokenizer.json", destination / "tokenizer.json")
    if (folder / CHAT_TEMPLATE).is_file():  # releases before 5 kept it in the next file
        shutil.copyfile(folder / CHAT_TEMPLATE, destination / CHAT_TEMPLATE)
    about = _optional(folder / "tokenizer_config.json")
    _write(destination / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **about})
    if (folder / "special_tokens_map.json").is_file():
        shutil.copyfile(folder / "special_tokens_map.json", destination / "special_tokens_map.json")
        return
    roles = (f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
    special = {role: about[role] for role in roles if about.get(role) is not None}
    _write(destination / "special_tokens_map.json", special)


def _has_own_head(tensors: dict[str, Tensor]) -> bool:
    """Tell whether a T5 has a head of its own: its config.json need not say so."""
    head, embedding = tensors.get("lm_head.weight"), tensors.get("shared.weight")
    return head is not None and embedding is not None and not torch.equal(head, embedding)


def _tensors(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of one file, or of the many that an index names."""
    files = [folder / "model.safetensors"]
    if (folder / "model.safetensors.index.json").is_file():
        index = _read(folder / "model.safetensors.index.json")
        files = [folder / name for name in sorted(set(index["weight_map"].values()))]
    tensors: dict[str, Tensor] = {}
    for path in files:
        if not path.is_file():
            hint = "; pickled weights (.bin) are not read, save them as safetensors with transformers"
            raise UserError(f"{folder}: {path.name} is missing{hint if path == folder / 'model.safetensors' else ''}")
        try:
            with safe_open(path, framework="pt") as stream:
                tensors |= {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no mapping)
        except SafetensorError as exc:
            raise UserError(
                f"{path}: cannot be read as safetensors ({exc}); {path.stat().st_size:,} bytes: cut short, or a "
                "pointer to a file of Git LFS?"
            ) from exc
    return tensors


def _special_tokens(folder: Path, config: dict[str, Any], *, family: str, vocab_size: int) -> SpecialTokens:
    generation, tokenizer = _optional(folder / "generation_config.json"), _optional(folder / "tokenizer.json")
    roles = {**_optional(folder / "special_tokens_map.json"), **_optional(folder / "tokenizer_config.json")}
    try:
        return SpecialTokens.of_folder(config, generation, tokenizer, roles, family=family, vocab_size=vocab_size)
    except UserError as exc:
        raise UserError(f"{folder}: {exc}") from exc


def _optional(path: Path) -> dict[str, Any]:
    """Return what a file says that need not be there."""
    return _read(path) if path.is_file() else {}


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as exc:
        raise UserError(f"{path.parent}: {path.name} is missing; it is no model of transformers") from exc
    except ValueError as exc:
        raise UserError(f"{path}: not valid JSON") from exc
    if not isinstance(value, dict):
        raise UserError(f"{path}: must be a JSON object")
    return value


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
