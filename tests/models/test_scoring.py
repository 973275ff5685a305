"""Scores are those of the text: how many windows are read at once changes memory alone."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from models.config import ModelConfig
from models.generation import LanguageModel, load_model
from models.scoring import score_documents
from models.transformer import Transformer

DOCUMENTS = ["ab" * 40, "c", "", "abcd" * 9, "dcba" * 30]
WINDOW = 8 * 5 * 4
"""Bytes of the logits of one window: 8 tokens of a vocabulary of 5."""


@pytest.fixture
def model() -> LanguageModel:
    vocabulary = {"<|endoftext|>": 0, **{c: i + 1 for i, c in enumerate("abcd")}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    torch.manual_seed(0)
    network = Transformer(ModelConfig(layers=1, heads=2, width=16, sequence_length=8), 5)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return LanguageModel(network.eval(), tokenizer, 0)


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (WINDOW, 1), (3 * WINDOW, 3), (10**9, 16)])
def test_memory_bounds_the_windows_read_at_once_and_not_the_score(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, limit: int, most: int
) -> None:
    expected = score_documents(model, DOCUMENTS)
    rows: list[int] = []
    embedded = model.network.embedded

    def watched(tokens: Tensor, **more: Any) -> Tensor:
        rows.append(len(tokens))
        return embedded(tokens, **more)

    monkeypatch.setattr(model.network, "embedded", watched)
    found = score_documents(model, DOCUMENTS, logit_bytes=limit)
    assert max(rows) == most
    assert [score.nats for score in found] == pytest.approx([score.nats for score in expected], rel=1e-6)
    assert score_documents(model, DOCUMENTS, logit_bytes=limit) == found


def test_an_artifact_is_loaded_by_the_keys_it_has_and_its_tokenizer_cuts_and_fills_nothing(
    model: LanguageModel, tmp_path: Path
) -> None:
    shape = {"layers": 1, "heads": 2, "width": 16, "sequence_length": 8}  # all that the first artifacts say
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 5, "eod": 0, "model": shape}))
    save_file(model.network.state_dict(), tmp_path / "model.safetensors")
    model.tokenizer.enable_truncation(3)
    model.tokenizer.enable_padding(length=6)
    model.tokenizer.save(str(tmp_path / "tokenizer.json"))
    loaded = load_model(tmp_path)
    assert loaded.encode("abcd") == [1, 2, 3, 4]
    model.tokenizer.no_truncation()
    model.tokenizer.no_padding()
    assert score_documents(loaded, DOCUMENTS) == score_documents(model, DOCUMENTS)
