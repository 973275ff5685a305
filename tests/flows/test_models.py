"""Models of transformers: imported, named in recipes, exported again, with their vocabulary."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.command import execute
from flows.recipe import load_recipe
from flows.references import initial_weights, vocabulary_of
from infra.errors import UserError


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A Llama of two small layers with a tokenizer of bytes, as transformers saves it."""
    import transformers as untyped
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    transformers: Any = untyped

    alphabet = {character: number for number, character in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE({**alphabet, "<|endoftext|>": 256}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    cfg = transformers.LlamaConfig(vocab_size=257, max_position_embeddings=64, eos_token_id=256, **shape)
    folder = tmp_path / "Toy Llama"
    transformers.LlamaForCausalLM(cfg).save_pretrained(folder)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    return folder


def test_a_model_is_imported_used_and_exported_again(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/store")
    monkeypatch.setenv("MILLRACE_WORKSPACE", str(tmp_path / "workspace"))
    assert execute(["import", str(toy), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["name"] == "toy-llama"
    assert execute(["generate", "toy-llama", "--prompt", "mill", "--max-tokens", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "mill"

    out = tmp_path / "out"
    assert execute(["export", "toy-llama", str(out), "--format", "huggingface"]) == 0
    assert "its logits are ours" in capsys.readouterr().out
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in out.iterdir()
    }
    assert execute(["export", "toy-llama", str(out), "--format", "huggingface"]) == 2
    assert "--force writes over it" in capsys.readouterr().err

    vocabulary = vocabulary_of("toy-llama")
    special = json.loads(vocabulary.file("special_tokens_map.json").read_bytes())
    assert special["eos_token"] == "<|endoftext|>"
    assert initial_weights("toy-llama")["initial"].digest == made["digest"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("extends: shakespeare-char\nname: continued\ntokenizer: {kind: model}\n")
    with pytest.raises(UserError, match=r"takes the vocabulary of pretrain\.initial_weights, which names none"):
        load_recipe(str(recipe))
    going_on = ["--set", "pretrain.initial_weights=toy-llama"]
    assert load_recipe(str(recipe), sets=going_on[1:]).tokenizer.kind == "model"
    capsys.readouterr()
    assert execute(["plan", str(recipe), "--input", __file__, *going_on]) == 2
    assert "model.layers is 2 there and 4 here" in capsys.readouterr().err


def test_what_is_no_model_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/store")
    monkeypatch.setenv("MILLRACE_WORKSPACE", str(tmp_path / "workspace"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    assert execute(["import", str(folder)]) == 2
    message = capsys.readouterr().err
    assert "model_type='mamba', which is none of gpt2, llama" in message
    assert len([line for line in message.splitlines() if line.startswith("millrace: ")]) == 1
    for nowhere in (str(tmp_path / "nowhere"), "./nowhere", "two--dashes"):
        assert execute(["import", nowhere]) == 2
        assert "no such folder" in capsys.readouterr().err


def test_presets_and_the_dial_are_told_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/store")
    assert execute(["presets", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert listed["gpt2-124m"]["parameters"] == 124_439_808
    assert listed["t5-small"]["layers"] == "6+6"
    assert execute(["dial", "--depth", "6", "--vocab-size", "8192"]) == 0
    said = capsys.readouterr().out
    assert "model.width = 384: 64 a layer" in said
    assert said.endswith("in a recipe: pretrain: {dial: {depth: 6}}\n")
    recipe = ["plan", "shakespeare-char", "--set", "pretrain.dial.depth=2", "--input", __file__]
    assert execute(recipe) == 0
    assert "pretrain.model.width = 128: 64 a layer" in capsys.readouterr().out
    assert execute(["dial", "--depth", "6", "--flops", "1e15"]) == 2
    assert "not depth and flops" in capsys.readouterr().err
    assert execute(["dial", "--flops", "-3"]) == 2
    assert "dial: --flops -3.0: Input should be greater than 0" in capsys.readouterr().err
