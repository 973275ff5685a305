"""Hugging Face: the logits of both implementations agree, in every family and both ways."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import flows.recipes
from flows.recipe_file import read_recipe
from infra.errors import UserError
from models.config import ModelConfig
from models.huggingface import architecture_for, export_folder, import_folder
from models.huggingface.configs import write_config
from models.huggingface.folders import network_of
from models.huggingface.special_tokens import SpecialTokens
from models.huggingface.weights import to_ours, to_theirs
from models.presets import PRESETS
from models.transformer import Transformer
from models.transformer.attention import Attention

SHIPPED = Path(flows.recipes.__path__[0])
VOCABULARY = 61
GPT2 = {
    "preset": "gpt2-tiny", "layers": 2, "width": 32, "heads": 2, "bias": True, "activation": "gelu_tanh",
    "sequence_length": 24,
}  # fmt: skip
LLAMA = {"layers": 2, "width": 32, "heads": 4, "sequence_length": 24, "qk_norm": False, "kv_heads": 2}
BERT = {"preset": "bert-tiny", "width": 32, "sequence_length": 24, "max_positions": 40}
T5 = {"preset": "t5-tiny", "layers": 2, "decoder_layers": 3, "width": 32, "head_width": 16, "ffn_width": 48,
      "relative_buckets": 8, "relative_max_distance": 12, "sequence_length": 24}  # fmt: skip
STRETCHED = {"factor": 8.0, "low_frequency_factor": 1.0, "high_frequency_factor": 4.0, "original_length": 16}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT2),
    "gpt2-untied-no-bias": ("gpt2", {**GPT2, "bias": False, "tied_embeddings": False, "activation": "gelu"}),
    "llama": ("llama", LLAMA),
    "llama-tied-stretched": ("llama", {**LLAMA, "tied_embeddings": True, "rope_scaling": STRETCHED, "bias": True}),
    "llama-geglu": ("llama", {**LLAMA, "activation": "geglu", "head_width": 16}),
    "mistral": ("mistral", {**LLAMA, "sliding_window": 5}),
    "qwen3": ("qwen3", {**LLAMA, "qk_norm": True, "tied_embeddings": True}),
    "qwen3-window": ("qwen3", {**LLAMA, "layers": 4, "qk_norm": True, "sliding_window": 5, "global_every": 2}),
    "apertus": ("apertus", {**LLAMA, "qk_norm": True, "activation": "relu2"}),
    "apertus-tied-gelu": (
        "apertus", {**LLAMA, "qk_norm": True, "activation": "gelu", "tied_embeddings": True, "head_width": 16}
    ),
    "arcee": ("arcee", {**LLAMA, "activation": "relu2"}),
    "nemotron": ("nemotron", {**LLAMA, "activation": "relu2", "norm": "layernorm", "bias": True}),
    "mixtral": ("mixtral", {**LLAMA, "moe": {"experts": 4, "top_k": 2}}),
    "qwen3-moe": (
        "qwen3_moe",
        {**LLAMA, "qk_norm": True, "moe": {"experts": 4, "top_k": 2, "every": 2, "expert_width": 16,
                                           "normalise_top_k": False}},
    ),
    "bert": ("bert", BERT),
    "bert-untied": ("bert", {**BERT, "tied_embeddings": False, "segments": 0}),
    "eurobert": ("eurobert", {**LLAMA, "family": "encoder", "activation": "relu2", "tied_embeddings": True}),
    "eurobert-gated": ("eurobert", {**LLAMA, "family": "encoder", "activation": "geglu", "head_width": 16}),
    "t5": ("t5", T5),
    "t5-scaled-otherwise": ("t5", {**T5, "attention_scale": None, "scale_head": False}),
    "t5-untied-scaled": ("t5", {**T5, "attention_scale": 0.3, "tied_embeddings": False}),
    "t5-v1.1": ("t5", {**T5, "activation": "geglu", "tied_embeddings": False, "scale_head": False}),
}  # fmt: skip


def artifact(folder: Path, shape: dict[str, Any]) -> Transformer:
    """Write an artifact of a network with random weights, none of them zero or one, and return it."""
    cfg = ModelConfig.model_validate(shape)
    network = Transformer(cfg, VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.3 * noise if parameter.ndim > 1 else 1 + 0.2 * noise)
    folder.mkdir()
    weights = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    save_file(weights, folder / "model.safetensors")
    about = {"architecture": cfg.family, "vocab_size": VOCABULARY, "eod": 7, "model": cfg.model_dump()}
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": {"type": "BPE"}}))
    return network.eval()


def loaded(folder: Path, family: str, **options: Any) -> Any:
    import transformers

    name = {"decoder": "CausalLM", "encoder": "MaskedLM", "encoder_decoder": "Seq2SeqLM"}[family]
    return getattr(transformers, f"AutoModelFor{name}").from_pretrained(folder, dtype=torch.float32, **options).eval()


@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_logits_agree_both_ways(name: str, tmp_path: Path) -> None:
    model_type, shape = SHAPES[name]
    ours = artifact(tmp_path / "artifact", shape)
    export_folder(tmp_path / "artifact", tmp_path / "exported", check=False)
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["model_type"] == model_type
    theirs = loaded(tmp_path / "exported", ours.cfg.family)
    tokens = torch.randint(0, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([20, 13, 6])
    real = torch.arange(20)[None] < lengths[:, None]
    documents = torch.where(real, 0, -1)
    if ours.cfg.family == "decoder":
        expected, got = theirs(tokens).logits, ours.logits(tokens)
        assert got.std() > 0.3
    elif ours.cfg.family == "encoder":
        expected = theirs(tokens, attention_mask=real.long()).logits[real]
        got = ours.logits(tokens, documents_BT=documents)[real]
    else:
        written = tokens.flip(1)
        expected = theirs(tokens, attention_mask=real.long(), decoder_input_ids=written).logits
        got = ours.logits(written, None, torch.zeros_like(tokens), tokens, documents)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)

    # And back, from what transformers itself writes.
    theirs.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer.json").write_bytes((tmp_path / "artifact" / "tokenizer.json").read_bytes())
    (tmp_path / "imported").mkdir()
    about = import_folder(tmp_path / "saved", tmp_path / "imported")
    assert (about["eod"], about["vocab_size"]) == (7, VOCABULARY)
    again = network_of(
        ModelConfig.model_validate(about["model"]), VOCABULARY, load_file(tmp_path / "imported" / "model.safetensors")
    )
    if ours.cfg.family == "encoder_decoder":
        read = again.logits(written, None, torch.zeros_like(tokens), tokens, documents)
        torch.testing.assert_close(read, got, atol=1e-5, rtol=1e-5)
    elif ours.cfg.family == "encoder":
        torch.testing.assert_close(again.logits(tokens, documents_BT=documents)[real], got, atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(again.logits(tokens), got, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "bert", "t5", "t5-v1.1"])
@torch.inference_mode()
def test_dropout_is_where_it_is_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = artifact(tmp_path / "artifact", {**SHAPES[name][1], "dropout": 0.1}).train()
    export_folder(tmp_path / "artifact", tmp_path / "exported", check=False)
    theirs = loaded(tmp_path / "exported", ours.cfg.family, attn_implementation="eager").train()
    places: list[torch.Size] = []

    def each_third(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        if not (training and p):
            return x
        places.append(x.shape)
        return x * (torch.arange(x[0].numel()) % 3 != 0).view(x.shape[1:])

    monkeypatch.setattr(torch.nn.functional, "dropout", each_third)
    monkeypatch.setattr(Attention, "_short_on_cpu", lambda *_: True)  # which drops of weights that it makes itself
    tokens = torch.randint(0, VOCABULARY, (3, 20), generator=torch.Generator().manual_seed(2))
    two = ours.cfg.family == "encoder_decoder"
    expected = theirs(tokens, **({"decoder_input_ids": tokens.flip(1)} if two else {})).logits
    there, places[:] = sorted(places), ()
    got = ours.logits(tokens.flip(1), source_BS=tokens) if two else ours.logits(tokens)
    assert sorted(places) == there
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_was_saved_in_half_precision_is_read_again(dtype: torch.dtype, tmp_path: Path) -> None:
    network = artifact(tmp_path / "artifact", SHAPES["apertus"][1])
    theirs = to_theirs("apertus", network.cfg, {name: weight.detach() for name, weight in network.named_parameters()})
    again = to_ours("apertus", network.cfg, {name: tensor.to(dtype) for name, tensor in theirs.items()})
    for name, weight in network.named_parameters():
        torch.testing.assert_close(again[name], weight.detach().to(dtype).float(), atol=1e-5, rtol=0)


def test_a_token_that_is_named_as_minus_one_is_none() -> None:
    with pytest.raises(UserError, match="which token ends a text"):
        SpecialTokens.of_folder({"eos_token_id": -1}, {}, {}, {}, family="decoder", vocab_size=9)
    found = SpecialTokens.of_folder(
        {"bos_token_id": -1, "eos_token_id": [-1, 2], "pad_token_id": -1}, {}, {}, {}, family="decoder", vocab_size=9
    )
    assert found == SpecialTokens(2)


RECIPES = sorted(
    path.stem for path in SHIPPED.glob("*.yaml") if "pretrain" in yaml.safe_load(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("name", RECIPES)
def test_what_every_shipped_recipe_trains_is_exported_with_its_logits(name: str, tmp_path: Path) -> None:
    artifact(tmp_path / "artifact", read_recipe(name)["pretrain"]["model"])
    (tmp_path / "artifact" / "tokenizer.json").write_text("{}")
    assert export_folder(tmp_path / "artifact", tmp_path / "exported").startswith("AutoModelFor")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_the_tensors_of_an_architecture_of_transformers(name: str) -> None:
    import transformers

    cfg, vocabulary = ModelConfig.model_validate({"preset": name}), PRESETS[name].vocab_size
    architecture = architecture_for(cfg)
    config = write_config(architecture.model_type, cfg, vocab_size=vocabulary, tokens=SpecialTokens(0))
    with torch.device("meta"):
        ours = dict(Transformer(cfg, vocabulary).named_parameters())
        theirs = getattr(transformers, architecture.model_class)(
            transformers.AutoConfig.for_model(architecture.model_type, **config)
        )
        wanted = {name: parameter.shape for name, parameter in theirs.named_parameters()}
        packed = {name: tensor.shape for name, tensor in to_theirs(architecture.model_type, cfg, ours).items()}
    assert packed == wanted


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (
            {"activation": "relu2", "bias": True},
            r"apertus but for bias=true \(there false\); arcee but for qk_norm=true \(there false",
        ),
        ({"qk_norm": False, "logit_softcap": 30.0}, r"nearest: llama but for logit_softcap=30\.0 \(there null\)"),
        ({"qk_norm": False, "moe": {"every": 2}, "layers": 4}, r"mixtral but for moe\.every=2 \(there 1\)"),
        ({**T5, "qk_norm": True}, r"t5 but for qk_norm=true \(there false\)"),
        ({"family": "encoder", "activation": "relu2"}, r"eurobert but for qk_norm=true \(there false\)"),
    ],
)
def test_a_shape_that_nobody_computes_is_refused_with_what_stands_in_the_way(shape: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        architecture_for(ModelConfig.model_validate(shape))


def spoil_config(**changes: Any) -> Callable[[Path], None]:
    """Return what replaces keys of config.json; of None it takes them away."""

    def spoil(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        changed = {name: value for name, value in {**config, **changes}.items() if value is not None}
        (folder / "config.json").write_text(json.dumps(changed))

    return spoil


def add_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "surplus": torch.ones(2)}, folder / "model.safetensors")


def another_activation(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "model.layers.1.mlp.act_fn.alpha_p": torch.tensor([0.5])}, folder / "model.safetensors")


def another_gate(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.gate_proj.weight"] += 1
    save_file(weights, folder / "model.safetensors")


def point_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("gpt2", add_tensor, "1 tensors that the network has not, transformer.surplus among them"),
        ("gpt2", point_elsewhere, r"model.safetensors: cannot be read as safetensors .*Git LFS"),
        ("gpt2", spoil_config(n_inner=99), "not of the shape that config.json says: .*ffn.down.weight"),
        ("llama", spoil_config(vocab_size=None), "does not say vocab_size"),
        ("llama", spoil_config(vocab_size="61"), "does not say vocab_size, a whole number"),
        ("llama", spoil_config(rope_parameters=[1]), "its shape is none that the network has: 'list' object"),
        ("llama", spoil_config(eos_token_id="</s>"), r"names the token '</s>', which is no whole number"),
        ("apertus", another_activation, r"act_fn.alpha_p is \[0.5.*the network computes 32768 alone"),
        ("eurobert", another_gate, "up_proj.weight is not the same as its gate"),
        ("qwen3-moe", spoil_config(use_sliding_window=True, sliding_window=4), "use_sliding_window=true"),
        (
            "qwen3-window",
            spoil_config(use_sliding_window=True, sliding_window=5, max_window_layers=2, layer_types=None),
            "other layers than each nth reach everything",
        ),
    ],
)
def test_a_folder_that_cannot_be_read_as_it_is_meant_is_refused_in_a_line(
    name: str, spoil: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    artifact(tmp_path / "artifact", SHAPES[name][1])
    export_folder(tmp_path / "artifact", tmp_path / "exported", check=False)
    spoil(tmp_path / "exported")
    (tmp_path / "imported").mkdir()
    with pytest.raises(UserError, match=said) as error:
        import_folder(tmp_path / "exported", tmp_path / "imported")
    assert "\n" not in str(error.value)
