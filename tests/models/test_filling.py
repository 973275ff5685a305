"""What is missing of a text is filled in: in its place, with text, in the order of the sentinels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from infra.artifacts import Attempt
from infra.errors import UserError
from models.config import ModelConfig
from models.filling import fill, filled
from models.generation import LanguageModel
from models.objectives import Vocabulary, read_vocabulary
from models.transformer import Cache, Transformer
from tasks.tokenizer import BpeConfig, WordPieceConfig
from tasks.tokenizer.saving import add_special_tokens, save
from tasks.tokenizer.training import train_tokenizer

TEXTS = ["the mill turns while the water runs and the wheels grind the grain\n"] * 20


def vocabulary_of(cfg: Any, folder: Path) -> tuple[Any, Vocabulary]:
    made = train_tokenizer(cfg, TEXTS)
    add_special_tokens(made, cfg)
    save(made, cfg, Attempt.at(folder))
    made.encode_special_tokens = True
    files = folder / "tokenizer.json", folder / "special_tokens_map.json"
    return made, read_vocabulary(*files, size=made.get_vocab_size(), end=made.token_to_id("<|endoftext|>"))


class Scripted(Transformer):
    """A network whose likeliest token at each position is known."""

    says: list[int]

    def logits(self, inputs_BT: Tensor, cache: Cache | None = None, *_: Any, **__: Any) -> Tensor:
        length, start = inputs_BT.shape[1], 0
        if cache is not None:
            start, cache.length = cache.length, cache.length + length
        out = torch.zeros(1, length, self.vocab_size)
        out[0, torch.arange(length), torch.tensor(self.says[start : start + length])] = 1.0
        return out


def model_that_says(family: str, made: Any, says: list[int]) -> LanguageModel:
    positions = "relative" if family == "encoder_decoder" else "rope"
    shape = ModelConfig(family=family, positions=positions, layers=1, heads=2, width=16, sequence_length=32)  # type: ignore[arg-type]
    network = Scripted(shape, made.get_vocab_size())
    network.says = says
    return LanguageModel(network, made, made.token_to_id("<|endoftext|>"))


def test_an_encoder_fills_in_masks_with_text(tmp_path: Path) -> None:
    made, vocabulary = vocabulary_of(WordPieceConfig(kind="wordpiece", vocab_size=220, mask_token="[MASK]"), tmp_path)
    mill = made.token_to_id("mill")
    model = model_that_says("encoder", made, [mill] * 32)
    found = fill(model, vocabulary, "the [MASK] turns while the [MASK] runs")
    assert found.text == "the mill turns while the mill runs"
    model.network.says = [made.token_to_id("[MASK]")] * 32  # type: ignore[assignment]
    assert "[MASK]" not in fill(model, vocabulary, "the [MASK] turns").text
    with pytest.raises(UserError, match=r"nothing is missing.*\[MASK\]"):
        fill(model, vocabulary, "the mill turns")
    with pytest.raises(UserError, match="the model reads 32"):
        fill(model, vocabulary, "the [MASK] " * 30)


def test_an_encoder_decoder_writes_spans_where_their_sentinels_stand(tmp_path: Path) -> None:
    made, vocabulary = vocabulary_of(BpeConfig(kind="bpe", vocab_size=400, sentinels=4), tmp_path)
    first, second, *_ = vocabulary.sentinels.tolist()
    spans = made.encode(" mill turns").ids, made.encode(" water").ids
    says = [first, *spans[0], second, *spans[1], vocabulary.end, *[0] * 32]
    model = model_that_says("encoder_decoder", made, says)
    found = fill(model, vocabulary, "the <extra_id_0> while the <extra_id_1> runs")
    assert found.text == "the mill turns while the water runs"
    tokens = made.encode("the").ids
    assert filled(model, vocabulary, [*tokens, first, *tokens, second]) == [*tokens, *spans[0], *tokens, *spans[1]]
    with pytest.raises(UserError, match=r"a sentinel twice.*<extra_id_0>, <extra_id_1>"):
        fill(model, vocabulary, "the <extra_id_0> while the <extra_id_0> runs")
    letters = len(made.encode("!").ids)
    fill(model, vocabulary, "<extra_id_0>" + "!" * (30 // letters))  # and the end: 32 in all
    with pytest.raises(UserError, match="has 32 tokens, the model reads 31"):
        fill(model, vocabulary, "<extra_id_0>" + "!" * (31 // letters))
    model.network.says = [vocabulary.end] * 64  # type: ignore[assignment]
    assert filled(model, vocabulary, [*tokens, first, *tokens]) == [*tokens, *tokens]  # an end comes after all spans


def test_real_networks_fill_in(tmp_path: Path) -> None:
    """Untrained ones, so that nothing is expected of the words: only that text comes out where it was missing."""
    torch.manual_seed(0)
    cfg = BpeConfig(kind="bpe", vocab_size=400, sentinels=4, mask_token="[MASK]")
    made, vocabulary = vocabulary_of(cfg, tmp_path)
    shapes = {"encoder": ("[MASK]", "rope"), "encoder_decoder": ("<extra_id_0>", "relative")}
    for family, (mark, positions) in shapes.items():
        shape = ModelConfig(family=family, positions=positions, layers=1, heads=2, width=16, sequence_length=32)  # type: ignore[arg-type]
        model = LanguageModel(Transformer(shape, made.get_vocab_size()), made, vocabulary.end)
        found = fill(model, vocabulary, f"the {mark} turns")
        assert found.text.startswith("the")
        assert found.text.endswith(" turns")
        assert mark not in found.text
