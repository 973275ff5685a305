"""What training relies on: every document once, whole and ended, in an order of the seed alone, counts exact."""

import json
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.artifacts import Artifact, Attempt
from infra.errors import DataError, UserError
from infra.manifests import Counters
from tasks.tokenizer import END_OF_DOCUMENT, BpeConfig, tokenizer
from tasks.tokenizer.encoding import DocumentEncoder
from tasks.tokens import TokensConfig, tokens
from tests.tasks.text_corpus import document, parts
from tests.tasks.tokenizer_corpus import config as tokenizer_config

GOLDEN = "4e7d9147a102d8ac886db10acdfa8e710d15b8ab02d1f2d40d9bf53a318466c9"


def texts(count: int = 60) -> list[dict[str, Any]]:
    generator = random.Random(3)
    made = [" ".join(f"w{generator.randrange(300)}" for _ in range(generator.randrange(1, 60))) for _ in range(count)]
    return [document(text, f"http://{i}", source="ab"[i % 2]) for i, text in enumerate(made)]


def corpus(directory: Path, shards: int = 1, train: list[dict[str, Any]] | None = None) -> Artifact:
    documents = texts() if train is None else train
    held_out = [document(f"held out {i} é", f"http://v{i}") for i in range(7)]
    return parts(directory, [documents[i::shards] for i in range(shards)], [held_out[i::shards] for i in range(shards)])


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    directory = tmp_path_factory.mktemp("tokenizer")
    out = directory / "out"
    tokenizer.fn(BpeConfig(kind="bpe", vocab_size=400), corpus(directory / "in"), Attempt.at(out))
    return Artifact.of(out)


def run(out: Path, documents: Artifact, vocabulary: Artifact, **cfg: Any) -> tuple[dict[str, Any], Counters]:
    counters = tokens.fn(TokensConfig(**cfg), documents, vocabulary, Attempt.at(out))
    counters.check("tokens")
    return json.loads((out / "index.json").read_text()), counters


def read(out: Path, split: str) -> list[list[list[int]]]:
    """The documents of each file of a split, by index.json alone, end tokens included."""
    index = json.loads((out / "index.json").read_text())
    shards = []
    for shard in (entry for entry in index["shards"] if entry["split"] == split):
        ids = np.fromfile(out / shard["file"], np.dtype(index["dtype"]).newbyteorder("<"))
        ends = np.load(out / shard["ends"])
        assert ends.dtype == np.uint64
        assert len(ids) == shard["tokens"] == ends[-1]
        assert len(ends) == shard["documents"]
        shards.append([part.tolist() for part in np.split(ids, ends[:-1].astype(np.int64))])
    return shards


def flat(shards: list[list[list[int]]]) -> list[list[int]]:
    return [ids for shard in shards for ids in shard]


def test_every_document_is_there_once_whole_and_ended(tmp_path: Path, vocabulary: Artifact) -> None:
    index, _ = run(tmp_path / "out", corpus(tmp_path / "in", 3), vocabulary)
    encoder = DocumentEncoder(vocabulary.file("tokenizer.json").local())
    found = flat(read(tmp_path / "out", "train"))
    assert all(ids[-1] == index["eod"] and index["eod"] not in ids[:-1] for ids in found)
    assert sorted(encoder.tokenizer.decode(ids[:-1]) for ids in found) == sorted(row["text"] for row in texts())
    assert len(flat(read(tmp_path / "out", "validation"))) == 7


def test_the_counts_are_exact_everywhere(tmp_path: Path, vocabulary: Artifact) -> None:
    index, counters = run(tmp_path / "out", corpus(tmp_path / "in", 2), vocabulary, tokens_per_shard=500)
    for split, documents in (("train", 60), ("validation", 7)):
        held = flat(read(tmp_path / "out", split))
        counts = index["splits"][split]
        assert (counts["documents"], counts["tokens"]) == (len(held), sum(map(len, held)))
        assert len(held) == documents
        for name in ("documents", "tokens", "bytes"):
            assert counters.values[f"{split}_{name}"] == counts[name]
            assert sum(source[name] for source in counts["sources"].values()) == counts[name]
        size = sum(path.stat().st_size for path in (tmp_path / "out" / split).glob("*.bin"))
        assert size == 2 * counts["tokens"]
    assert counters.documents_in == counters.documents_out == 67
    assert index["splits"]["train"]["bytes"] == sum(len(row["text"].encode()) for row in texts())
    assert index["splits"]["train"]["sources"]["a"]["documents"] == 30
    assert index["splits"]["validation"]["bytes"] == 7 * len("held out 0 é".encode())
    assert index["tokenizer"] == vocabulary.content
    assert index["dtype"] == "uint16"


@pytest.mark.parametrize("name", ["unigram", "wordpiece", "characters", "bpe-whitespace"])
def test_the_counts_are_exact_with_every_kind_of_tokenizer(tmp_path: Path, name: str) -> None:
    documents = corpus(tmp_path / "in", 2, [*texts(), document("水 w1 車", "http://new", source="b")])
    learned = corpus(tmp_path / "known") if name != "characters" else documents
    config = tokenizer_config(name, vocab_size=600) if name != "characters" else tokenizer_config(name)
    tokenizer.fn(config, learned, Attempt.at(tmp_path / "vocabulary"))
    vocabulary = Artifact.of(tmp_path / "vocabulary")
    index, counters = run(tmp_path / "out", documents, vocabulary)
    encoder = DocumentEncoder(vocabulary.file("tokenizer.json").local())
    assert index["vocab_size"] == encoder.vocab_size == counters_of(vocabulary)["vocab_size"]
    found = flat(read(tmp_path / "out", "train"))
    assert index["splits"]["train"]["tokens"] == counters.values["train_tokens"] == sum(map(len, found))
    assert (index["splits"]["train"]["documents"], len(found)) == (61, 61)
    assert all(ids[-1] == index["eod"] and index["eod"] not in ids[:-1] for ids in found)
    assert max(id for ids in found for id in ids) < index["vocab_size"]
    unknown = 2 if name == "wordpiece" else 0
    assert index["splits"]["train"]["unknown_tokens"] == unknown
    assert index["splits"]["train"]["sources"]["b"]["unknown_tokens"] == unknown
    assert index["splits"]["validation"]["unknown_tokens"] == (7 if unknown else 0)  # é, in every document
    assert counters.values["unknown_tokens"] == sum(split["unknown_tokens"] for split in index["splits"].values())
    decoded = {encoder.tokenizer.decode(ids[:-1], skip_special_tokens=False) for ids in found}
    assert ("[UNK] w1 [UNK]" if unknown else "水 w1 車") in decoded


def counters_of(vocabulary: Artifact) -> Any:
    return json.loads(vocabulary.file("report.json").local().read_bytes())


def test_the_order_depends_on_the_seed_and_not_on_the_shards(tmp_path: Path, vocabulary: Artifact) -> None:
    contents = []
    for number, shards in enumerate((1, 5, 60)):
        shuffled = texts()
        random.Random(number).shuffle(shuffled)
        documents = corpus(tmp_path / f"in{number}", shards, shuffled)
        run(tmp_path / f"out{number}", documents, vocabulary, seed=4)
        contents.append(Artifact.of(tmp_path / f"out{number}").content)
    assert len(set(contents)) == 1

    run(tmp_path / "other", corpus(tmp_path / "in"), vocabulary, seed=5)
    one, other = (flat(read(tmp_path / name, "train")) for name in ("out0", "other"))
    assert one != other
    assert sorted(one) == sorted(other)
    assert read(tmp_path / "out0", "validation") == read(tmp_path / "other", "validation")


def test_the_order_is_mixed(tmp_path: Path, vocabulary: Artifact) -> None:
    by_source = sorted(texts(), key=lambda row: row["source"])
    run(tmp_path / "out", corpus(tmp_path / "in", 1, by_source), vocabulary)
    encoder = DocumentEncoder(vocabulary.file("tokenizer.json").local())
    source = {row["text"]: row["source"] for row in by_source}
    order = [source[encoder.tokenizer.decode(ids[:-1])] for ids in flat(read(tmp_path / "out", "train"))]
    assert 15 < sum(a != b for a, b in pairwise(order)) < 45


@pytest.mark.parametrize("limit", [1, 100, 777])
def test_no_document_is_divided_between_files(tmp_path: Path, vocabulary: Artifact, limit: int) -> None:
    documents = corpus(tmp_path / "in")
    run(tmp_path / "whole", documents, vocabulary)
    index, _ = run(tmp_path / "out", documents, vocabulary, tokens_per_shard=limit)
    shards = read(tmp_path / "out", "train")
    assert flat(shards) == flat(read(tmp_path / "whole", "train"))
    assert all(sum(map(len, shard)) <= limit or len(shard) == 1 for shard in shards)
    assert all(sum(map(len, a)) + len(b[0]) > limit for a, b in pairwise(shards))
    assert [shard["file"] for shard in index["shards"]][:2] == ["train/00000.bin", "train/00001.bin"]


def test_documents_of_nothing_and_of_one_token(tmp_path: Path, vocabulary: Artifact) -> None:
    documents = parts(tmp_path / "in", [[], [document("")], [document("a")]], [[document("b")], []])
    _, counters = run(tmp_path / "out", documents, vocabulary)
    assert sorted(map(len, flat(read(tmp_path / "out", "train")))) == [1, 2]
    assert counters.values["tokens"] == 5


def test_a_document_that_names_the_end_token_ends_once(tmp_path: Path, vocabulary: Artifact) -> None:
    run(tmp_path / "out", corpus(tmp_path / "in", 1, [document(f"a {END_OF_DOCUMENT} b")]), vocabulary)
    (ids,) = flat(read(tmp_path / "out", "train"))
    assert len(ids) > 5


def test_a_large_vocabulary_takes_four_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    vocabulary = {chr(0x100 + i + (0x800 if i > 0xD6FF else 0)): i for i in range(1 << 16)} | {END_OF_DOCUMENT: 1 << 16}
    (tmp_path / "vocabulary").mkdir()
    Tokenizer(models.WordLevel(vocabulary, unk_token="?")).save(str(tmp_path / "vocabulary" / "tokenizer.json"))
    last = next(text for text, id in vocabulary.items() if id == (1 << 16) - 1)
    documents = parts(tmp_path / "in", [[document(last)]], [[document(last)]])
    index, _ = run(tmp_path / "out", documents, Artifact.of(tmp_path / "vocabulary"))
    assert index["dtype"] == "uint32"
    assert flat(read(tmp_path / "out", "train")) == [[(1 << 16) - 1, 1 << 16]]


def test_an_empty_part_is_an_error_about_the_split(tmp_path: Path, vocabulary: Artifact) -> None:
    for train, validation in (([], [document("a")]), ([document("a")], [])):
        documents = parts(tmp_path / f"in{len(train)}", [train], [validation])
        with pytest.raises(UserError, match=r"split\.validation_fraction"):
            run(tmp_path / f"out{len(train)}", documents, vocabulary)


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    (tmp_path / "vocabulary").mkdir()
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(tmp_path / "vocabulary" / "tokenizer.json"))
    with pytest.raises(DataError, match="no token"):
        run(tmp_path / "out", corpus(tmp_path / "in"), Artifact.of(tmp_path / "vocabulary"))


def test_what_a_killed_attempt_left_does_not_matter(tmp_path: Path, vocabulary: Artifact) -> None:
    documents = corpus(tmp_path / "in")
    attempt = Attempt.at(tmp_path / "out")
    (attempt.scratch / "train.bin").write_bytes(b"rubbish")
    tokens.fn(TokensConfig(), documents, vocabulary, attempt)
    run(tmp_path / "clean", documents, vocabulary)
    assert Artifact.of(tmp_path / "out").content == Artifact.of(tmp_path / "clean").content


LARGE = """
import sys
from pathlib import Path
from infra.artifacts import Artifact, Attempt
from infra.peak_memory import own_peak_bytes
from tasks.tokens import TokensConfig, tokens
documents, vocabulary = Artifact.of(Path(sys.argv[1])), Artifact.of(Path(sys.argv[2]))
tokens.fn(TokensConfig(), documents, vocabulary, Attempt.at(Path(sys.argv[3])))
print(own_peak_bytes())
"""


@pytest.mark.slow
def test_a_document_of_50_megabytes_is_encoded_in_bounded_memory(tmp_path: Path, vocabulary: Artifact) -> None:
    words = " ".join(row["text"] for row in texts())
    text = (words * (50_000_000 // len(words) + 1))[:50_000_000]
    corpus(tmp_path / "in", 1, [document(text)])
    folders = [str(tmp_path / "in"), str(vocabulary.file("tokenizer.json").local().parent), str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", LARGE, *folders],
        cwd=Path(__file__).parents[2],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 2_500_000_000  # one call of `tokenizers` takes 5.8 GB
    (ids,) = flat(read(tmp_path / "out", "train"))
    encoder = DocumentEncoder(vocabulary.file("tokenizer.json").local())
    assert encoder.tokenizer.decode(ids[-2000:-1])[10:] in text
    assert len(ids) > 10_000_000


def test_golden(tmp_path: Path, vocabulary: Artifact) -> None:
    """Changes only with the step's VERSION."""
    assert tokens.version == 3
    run(tmp_path / "out", corpus(tmp_path / "in", 2), vocabulary, tokens_per_shard=500)
    assert Artifact.of(tmp_path / "out").content == GOLDEN
