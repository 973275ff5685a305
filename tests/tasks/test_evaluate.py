"""What a model is judged on, and that the numbers are those of the text, the tokens and the model."""

import json
import math
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infra.artifacts import Artifact, Attempt
from infra.errors import DataError, UserError
from tasks.documents import DOCUMENTS, document_id, iter_rows, write_parquet
from tasks.evaluate import EvaluateConfig, evaluate
from tasks.evaluate.candidate import Cost
from tasks.evaluate.references import count_tokens
from tasks.tokenizer import BpeConfig, CharactersConfig, tokenizer
from tasks.tokenizer.encoding import DocumentEncoder
from tasks.tokens import TokensConfig, tokens

WORDS = ["the", "mill", "turns", "while", "water", "runs", "and", "wheels", "grind", "grain", "ümlaut", "水車"]


def rows(seed: int, count: int, source: str) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    texts = [" ".join(chance.choices(WORDS, k=chance.randrange(20, 80))) + ".\n" for _ in range(count)]
    return [
        {"id": document_id(f"{source}{n}", text), "text": text, "url": f"{source}{n}", "source": source,
         "metadata": "{}", "file": "f"}
        for n, text in enumerate(texts)
    ]  # fmt: skip


class Parts:
    """The artifacts that `evaluate` reads, made by the real steps from a little text."""

    def __init__(self, folder: Path) -> None:
        for part, seeds in (("train", (1, 2)), ("validation", (3, 4))):
            (folder / "split" / part).mkdir(parents=True)
            for seed, source in zip(seeds, ("site", "books"), strict=True):
                path = folder / "split" / part / f"{seed:05d}-part.parquet"
                write_parquet(path, rows(seed, 30 if part == "train" else 8, source), DOCUMENTS)
        self.documents = Artifact.of(folder / "split", "split")
        tokenizer.fn(BpeConfig(kind="bpe", vocab_size=300), self.documents, Attempt.at(folder / "tokenizer"))
        vocabulary = Artifact.of(folder / "tokenizer", "tokenizer")
        tokens.fn(TokensConfig(), self.documents, vocabulary, Attempt.at(folder / "tokens"))
        self.tokens = Artifact.of(folder / "tokens", "tokens")
        (folder / "model").mkdir()
        shutil.copy(folder / "tokenizer" / "tokenizer.json", folder / "model")
        self.model = Artifact.of(folder / "model", "pretrain")
        self.encoder = DocumentEncoder(folder / "model" / "tokenizer.json")

    def texts(self) -> list[str]:
        return [row["text"] for file in self.documents.files("validation") for row in iter_rows(file, ["text"])]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return Parts(tmp_path_factory.mktemp("parts"))


class Pretender:
    """A model of which the probabilities are known: so many nats for each token."""

    def __init__(self, encoder: DocumentEncoder, cost: npt.NDArray[np.float64]) -> None:
        self.encoder, self.cost = encoder, cost

    def costs(self, texts: Sequence[str]) -> list[Cost]:
        ids = [np.append(ids, self.encoder.end_of_document) for _, ids in self.encoder.encode((t, t) for t in texts)]
        return [Cost(float(self.cost[each].sum()), len(each)) for each in ids]

    def write(self, prompt: str, seed: int) -> str:
        return f" after {prompt} with {seed}"


Judge = Callable[..., dict[str, Any]]


@pytest.fixture
def judge(parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Run the step on a model that costs so many nats a token; return evaluation.json."""

    def run(cost: npt.NDArray[np.float64], **config: Any) -> dict[str, Any]:
        monkeypatch.setattr("tasks.evaluate.judging.load_candidate", lambda *_: Pretender(parts.encoder, cost))
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        counters = evaluate.fn(EvaluateConfig(**config), parts.model, parts.documents, parts.tokens, Attempt.at(out))
        counters.check("evaluate")
        found: dict[str, Any] = json.loads((out / "evaluation.json").read_text())
        assert counters.values["bytes"] == found["validation"]["bytes"]
        return found

    return run


def test_a_model_that_knows_nothing_is_as_good_as_the_uniform_line(parts: Parts, judge: Judge) -> None:
    size = parts.encoder.vocab_size
    found = judge(np.full(size, math.log(size)))
    assert found["validation"]["bits_per_byte"] == found["reference/uniform-tokens"]["bits_per_byte"]
    assert found["validation"]["nats_per_token"] == pytest.approx(math.log(size), abs=1e-6)
    assert found["validation"]["perplexity"] == pytest.approx(size, rel=1e-4)
    assert found["verdict"]["learned"] is False


def test_a_model_that_counts_tokens_is_the_unigram_line_and_has_not_learned(parts: Parts, judge: Judge) -> None:
    shards = [file.local() for file in parts.tokens.files("train") if file.path.endswith(".bin")]
    counts = count_tokens(shards, "uint16", parts.encoder.vocab_size)
    found = judge(np.log((counts + 1).sum()) - np.log(counts + 1.0))
    assert found["validation"]["bits_per_byte"] == found["reference/unigram"]["bits_per_byte"]
    assert found["reference/unigram"]["bits_per_byte"] < found["reference/uniform-tokens"]["bits_per_byte"]
    assert found["verdict"]["learned"] is False


def test_a_model_that_is_nearly_sure_is_below_every_line(parts: Parts, judge: Judge) -> None:
    found = judge(np.full(parts.encoder.vocab_size, 0.01))
    assert found["verdict"] == {
        "learned": True, "below_unigram": True, "below_5_gram": True, "below_gzip_9": True, "below_xz_9": True
    }  # fmt: skip


def test_bytes_and_tokens_are_those_of_the_text_and_add_up_over_sources(parts: Parts, judge: Judge) -> None:
    found = judge(np.ones(parts.encoder.vocab_size))
    texts = parts.texts()
    whole, site, books = (found[task] for task in ("validation", "validation/site", "validation/books"))
    assert whole["bytes"] == len("".join(texts).encode())
    assert whole["tokens"] == sum(len(parts.encoder.tokenizer.encode(text).ids) + 1 for text in texts)
    assert whole["bits_per_byte"] == pytest.approx(whole["tokens"] / math.log(2) / whole["bytes"], abs=1e-6)
    assert whole["coverage"] == 1.0
    for metric in ("documents", "bytes", "tokens"):
        assert whole[metric] == site[metric] + books[metric]


def test_a_limit_judges_model_and_references_on_the_same_shorter_text(parts: Parts, judge: Judge) -> None:
    full = judge(np.ones(parts.encoder.vocab_size))
    short = judge(np.ones(parts.encoder.vocab_size), max_bytes=1000)
    assert 996 < short["validation"]["bytes"] <= 1000
    assert short["validation"]["coverage"] == pytest.approx(
        short["validation"]["bytes"] / full["validation"]["bytes"], abs=1e-5
    )
    assert [short[f"validation/{source}"]["bytes"] for source in ("books", "site")] == pytest.approx([500, 500], abs=3)
    assert short["reference/xz-9"]["bits_per_byte"] > full["reference/xz-9"]["bits_per_byte"]


def test_samples_are_those_of_the_prompts(parts: Parts, judge: Judge, tmp_path: Path) -> None:
    judge(np.ones(parts.encoder.vocab_size), prompts=("One", "Two"), seed=5)
    assert json.loads((tmp_path / "out" / "samples.json").read_text()) == [
        {"prompt": "One", "text": " after One with 5", "seed": 5},
        {"prompt": "Two", "text": " after Two with 6", "seed": 6},
    ]


def test_no_held_out_text_is_an_error_that_says_what_to_do(parts: Parts, judge: Judge, tmp_path: Path) -> None:
    (tmp_path / "empty" / "validation").mkdir(parents=True)
    write_parquet(tmp_path / "empty" / "validation" / "part.parquet", [], DOCUMENTS)
    parts_without = Artifact.of(tmp_path / "empty", "split")
    judge(np.ones(parts.encoder.vocab_size))
    with pytest.raises(DataError, match=r"split\.validation_fraction"):
        evaluate.fn(EvaluateConfig(), parts.model, parts_without, parts.tokens, Attempt.at(tmp_path / "none"))


def test_tokens_of_another_vocabulary_are_refused(parts: Parts, judge: Judge, tmp_path: Path) -> None:
    shutil.copytree(parts.tokens.root, tmp_path / "tokens")
    path = tmp_path / "tokens" / "index.json"
    path.write_text(path.read_text().replace('"vocab_size": 300', '"vocab_size": 301'))
    other = Artifact.of(tmp_path / "tokens", "tokens")
    judge(np.ones(parts.encoder.vocab_size))
    with pytest.raises(DataError, match="do not belong together"):
        evaluate.fn(EvaluateConfig(), parts.model, parts.documents, other, Attempt.at(tmp_path / "none"))


def test_a_prompt_that_the_vocabulary_lacks_is_left_out(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "characters"
    tokenizer.fn(CharactersConfig(kind="characters"), parts.documents, Attempt.at(folder / "model"))
    tokens.fn(TokensConfig(), parts.documents, Artifact.of(folder / "model"), Attempt.at(folder / "tokens"))
    model, made = Artifact.of(folder / "model", "pretrain"), Artifact.of(folder / "tokens", "tokens")
    encoder = DocumentEncoder(folder / "model" / "tokenizer.json")
    fake = Pretender(encoder, np.ones(encoder.vocab_size))
    monkeypatch.setattr("tasks.evaluate.judging.load_candidate", lambda *_: fake)
    cfg = EvaluateConfig(prompts=("mill", "Σ", "water"))
    evaluate.fn(cfg, model, parts.documents, made, Attempt.at(tmp_path / "out"))
    assert [row["prompt"] for row in json.loads((tmp_path / "out" / "samples.json").read_text())] == ["mill", "water"]


def test_a_model_that_encodes_otherwise_is_refused(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Pretender):
        def costs(self, texts: Sequence[str]) -> list[Cost]:
            return [Cost(1.0, 1) for _ in texts]

    monkeypatch.setattr("tasks.evaluate.judging.load_candidate", lambda *_: Other(parts.encoder, np.ones(300)))
    with pytest.raises(DataError, match="of a text of books"):
        evaluate.fn(EvaluateConfig(), parts.model, parts.documents, parts.tokens, Attempt.at(tmp_path / "out"))


@pytest.fixture(scope="module")
def trained(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A model artifact with a tiny network that never learned anything."""
    import torch
    from safetensors.torch import save_file

    from models.config import ModelConfig
    from models.transformer import Transformer

    folder = tmp_path_factory.mktemp("trained")
    shape = ModelConfig(layers=1, heads=2, width=16, sequence_length=32)
    torch.manual_seed(0)
    save_file(Transformer(shape, 300).state_dict(), folder / "model.safetensors")
    config = {"architecture": "decoder", "vocab_size": 300, "eod": 0, "model": shape.model_dump()}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(parts.model.file("tokenizer.json").local(), folder)
    return Artifact.of(folder, "pretrain")


def test_an_untrained_network_costs_about_the_logarithm_of_the_vocabulary(
    parts: Parts, trained: Artifact, tmp_path: Path
) -> None:
    cfg = EvaluateConfig(new_tokens=12)
    for name in ("one", "two"):
        evaluate.fn(cfg, trained, parts.documents, parts.tokens, Attempt.at(tmp_path / name))
    found = json.loads((tmp_path / "one" / "evaluation.json").read_text())
    assert found["validation"]["nats_per_token"] == pytest.approx(math.log(300), abs=0.3)
    assert found["verdict"]["learned"] is False
    assert found["validation"]["tokens"] == sum(found[f"validation/{name}"]["tokens"] for name in ("site", "books"))
    for name in ("evaluation.json", "samples.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert len(json.loads((tmp_path / "one" / "samples.json").read_text())) == len(cfg.prompts)


def test_text_that_looks_like_a_special_token_is_judged_as_text(
    parts: Parts, trained: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "odd" / "validation").mkdir(parents=True)
    row = rows(1, 1, "site")[0] | {"text": "the <|endoftext|> mill"}
    write_parquet(tmp_path / "odd" / "validation" / "part.parquet", [row], DOCUMENTS)
    cfg = EvaluateConfig(prompts=())
    evaluate.fn(cfg, trained, Artifact.of(tmp_path / "odd"), parts.tokens, Attempt.at(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["validation"]["bytes"] == 22


def test_a_prompt_with_characters_that_a_vocabulary_of_characters_lacks_is_refused_by_name(
    parts: Parts, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    from models.config import ModelConfig
    from models.generation import generate, load_model
    from models.transformer import Transformer

    tokenizer.fn(CharactersConfig(kind="characters"), parts.documents, Attempt.at(tmp_path))
    size = DocumentEncoder(tmp_path / "tokenizer.json").vocab_size
    shape = ModelConfig(layers=1, heads=2, width=16, sequence_length=32)
    torch.manual_seed(0)
    save_file(Transformer(shape, size).state_dict(), tmp_path / "model.safetensors")
    config = {"vocab_size": size, "eod": 0, "model": shape.model_dump()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_model(tmp_path)
    assert generate(model, "the mill", max_tokens=4) == generate(model, "the mill", max_tokens=4)
    with pytest.raises(UserError, match="no token for 'ΔΣ'; leave it out"):
        generate(model, "the Σ mill Δ")
