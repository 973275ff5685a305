"""What a user of `tokenizer` relies on: text comes back, transformers agrees, training twice gives the same bytes."""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.artifacts import Artifact, Attempt
from infra.canonical import sha256_file
from infra.errors import DataError, UserError
from infra.manifests import Counters
from tasks.tokenizer import END_OF_DOCUMENT, TokenizerConfig, tokenizer
from tasks.tokenizer.encoding import DocumentEncoder, chunks, pieces
from tasks.tokenizer.training import character_tokenizer, train_bpe
from tests.tasks.text_corpus import document, parts

GOLDEN = {
    "gpt2": "7374ef1632a50919770f602afb70e15cb3d51f8236a54c2d5888c41afbb53f51",
    "gpt4": "cc624b43f4c265e2be6d85fa169ddb90691ac92d72283248fa90b1fb3ae54500",
    "characters": "becf170228895648b7feb9322f984ba03aebb01ceec830ec5b4b73e7804a6c90",
}

PROSE = """The mill stands by the river, and the river isn't still: it's 1,024 feet of white water in spring!
    Its wheel turned from 1843 to 1910;  after that nobody ground corn there\t(so they say).\n\n\n
Zwölf Müller mahlten täglich Mehl. 水车在转动。 Мельница стоит у реки, 'Tis so.\r\n\r
naïve café — “quotes”… 😀👍🏽\n"""


def prose(shards: int = 2) -> list[list[dict[str, Any]]]:
    documents = [document(f"{PROSE} number {i} {i * 7919}", f"http://{i}", source="ab"[i % 2]) for i in range(40)]
    return [documents[i::shards] for i in range(shards)]


def run(directory: Path, documents: Artifact | None = None, **cfg: Any) -> tuple[Path, Counters]:
    documents = documents or parts(directory / "in", prose(), [[document("held out: Ω")]])
    out = directory / "out"
    counters = tokenizer.fn(TokenizerConfig(**cfg), documents, Attempt.at(out))
    counters.check("tokenizer")
    return out, counters


@cache
def small_bpe(pattern: str) -> Any:
    from tokenizers import Tokenizer

    cfg = TokenizerConfig(kind="bpe", vocab_size=600, pattern=pattern)
    made = train_bpe(cfg, [row["text"] for shard in prose() for row in shard])
    assert isinstance(made, Tokenizer)
    return made


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_text_comes_back(pattern: str, text: str) -> None:
    made = small_bpe(pattern)
    assert made.decode(made.encode(text).ids, skip_special_tokens=False) == text


ALPHABET = st.sampled_from(
    [*" \n\t\r\u00a0\u2028\u180e\x1c\x85", *"abÄ1é٣水あ한。、.,'-/<|s\u0301", " \n", "'re", "  ", "\n\n"]
)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
@settings(max_examples=1500, deadline=None)
@given(text=st.lists(ALPHABET | st.characters(codec="utf-8"), max_size=60).map("".join), size=st.integers(1, 8))
def test_a_text_in_pieces_has_the_ids_of_the_whole(pattern: str, text: str, size: int) -> None:
    made = small_bpe(pattern)
    cut = list(pieces(text, size))
    assert "".join(cut) == text
    assert [id for piece in cut for id in made.encode(piece).ids] == made.encode(text).ids


@pytest.mark.parametrize("text", [PROSE, "水车在转动。", '{"key":[1,2,"value"]}', "https://example.org/?a=b&c=d;"])
def test_text_is_cut_into_pieces_at_all(text: str) -> None:
    assert max(map(len, pieces(text * 200, 200))) < 300
    assert list(pieces("", 5)) == list(chunks("", 5)) == [""]
    assert list(chunks("abcde", 2)) == ["ab", "cd", "e"]


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_transformers_loads_it_and_gives_the_same_ids(tmp_path: Path, kind: str) -> None:
    from transformers import AutoTokenizer

    out, _ = run(tmp_path, kind=kind, vocab_size=400, special_tokens=("<|user|>",))
    theirs = AutoTokenizer.from_pretrained(out)
    ours = DocumentEncoder(out / "tokenizer.json")
    for row in prose(1)[0]:
        ((_, ids),) = ours.encode([(None, row["text"])])
        assert theirs(row["text"])["input_ids"] == ids.tolist()
        assert theirs.decode(ids.tolist()) == row["text"]
    assert len(theirs) == ours.vocab_size
    assert theirs.eos_token_id == ours.end_of_document
    assert theirs.convert_tokens_to_ids("<|user|>") < ours.vocab_size
    assert theirs.decode([ours.end_of_document], skip_special_tokens=True) == ""


def test_characters_have_nanogpts_ids(tmp_path: Path, shared_data: Path) -> None:
    text = (shared_data / "text" / "tinyshakespeare.txt").read_text()
    cut = int(len(text) * 0.9)
    documents = parts(tmp_path / "in", [[document(text[:cut])]], [[document(text[cut:])]])
    out, counters = run(tmp_path, documents, kind="characters")
    encoder = DocumentEncoder(out / "tokenizer.json")
    assert counters.values["vocab_size"] == encoder.vocab_size == 65 + 1
    assert encoder.end_of_document == 65
    stoi = {character: id for id, character in enumerate(sorted(set(text)))}  # nanoGPT's prepare.py
    ((_, ids),) = encoder.encode([(None, text)])
    assert ids.tolist() == [stoi[character] for character in text]


def test_characters_of_validation_are_known_and_others_are_an_error(tmp_path: Path) -> None:
    out, _ = run(tmp_path, kind="characters")
    encoder = DocumentEncoder(out / "tokenizer.json")
    assert list(encoder.encode([(None, "Ω")]))
    with pytest.raises(DataError, match=r"ß.*which its vocabulary lacks"):
        list(encoder.encode([(None, "Straße")]))


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1))
def test_every_character_comes_back(text: str) -> None:
    made = character_tokenizer([text], TokenizerConfig(kind="characters"))
    assert made.decode(made.encode(text).ids) == text


@pytest.mark.parametrize("kind", ["bpe", "characters"])
def test_a_special_token_in_a_text_is_text(tmp_path: Path, kind: str) -> None:
    text = f"He wrote {END_OF_DOCUMENT} and went on."
    documents = parts(tmp_path / "in", [[document(text)], *prose()], [[document("b")]])
    out, _ = run(tmp_path, documents, kind=kind, vocab_size=400)
    encoder = DocumentEncoder(out / "tokenizer.json")
    ((_, ids),) = encoder.encode([(None, text)])
    assert encoder.end_of_document not in ids
    assert encoder.tokenizer.decode(ids.tolist()) == text


def test_many_texts_come_out_under_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.tokenizer.encoding.BATCH_CHARACTERS", 500)
    monkeypatch.setattr("tasks.tokenizer.encoding.PIECE_CHARACTERS", 20)
    out, _ = run(tmp_path, kind="bpe", vocab_size=400)
    encoder = DocumentEncoder(out / "tokenizer.json")
    texts = ["", PROSE * 5, "x", "", *(row["text"] for row in prose(1)[0]), *("ab " * n for n in range(30)), ""]
    found = list(encoder.encode(enumerate(texts)))
    assert [key for key, _ in found] == list(range(len(texts)))
    assert [encoder.tokenizer.decode(ids.tolist()) for _, ids in found] == texts


TRAIN = """
import sys
from pathlib import Path
from infra.artifacts import Artifact, Attempt
from tasks.tokenizer import TokenizerConfig, tokenizer
cfg = TokenizerConfig(kind="bpe", vocab_size=500, pattern=sys.argv[3])
tokenizer.fn(cfg, Artifact.of(Path(sys.argv[1])), Attempt.at(Path(sys.argv[2])))
"""


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_training_twice_gives_the_same_bytes_whatever_threads_and_shards(tmp_path: Path, pattern: str) -> None:
    digests = set()
    for number, threads in enumerate(["1", "2", "3"]):
        parts(tmp_path / f"in{number}", prose(1 + number), [[document("b")]])
        out = tmp_path / f"out{number}"
        arguments = [str(tmp_path / f"in{number}"), str(out), pattern]
        environment = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[2])}
        subprocess.run([sys.executable, "-c", TRAIN, *arguments], env=environment, check=True)
        digests.add(tuple(sha256_file(path) for path in sorted(out.iterdir())))
    assert len(digests) == 1


def test_a_small_corpus_gives_a_smaller_vocabulary_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, counters = run(tmp_path, kind="bpe", vocab_size=5000)
    report = json.loads((out / "report.json").read_text())
    actual = counters.values["vocab_size"]
    assert actual < 5000
    assert report["vocab_size"] == actual == DocumentEncoder(out / "tokenizer.json").vocab_size
    assert report["vocab_size_requested"] == 5000
    assert f"give {actual} tokens, not the 5000" in caplog.text


def test_the_report_counts_what_was_encoded(tmp_path: Path) -> None:
    out, _ = run(tmp_path, kind="bpe", vocab_size=400)
    report = json.loads((out / "report.json").read_text())
    texts = [row["text"] for row in prose(1)[0]]
    encoder = DocumentEncoder(out / "tokenizer.json")
    tokens = sum(len(ids) for _, ids in encoder.encode(enumerate(texts)))
    assert report["measured_on"] == {"documents": 40, "bytes": sum(len(t.encode()) for t in texts), "tokens": tokens}
    assert report["bytes_per_token"] == round(report["measured_on"]["bytes"] / tokens, 4)
    assert set(report["sources"]) == {"a", "b"}
    assert sum(source["tokens"] for source in report["sources"].values()) == tokens
    assert 0 < report["unused_tokens"] < 400


def test_a_sample_is_the_same_from_any_shards_and_within_its_limit(tmp_path: Path) -> None:
    taken = []
    for shards in (1, 4):
        documents = parts(tmp_path / f"in{shards}", prose(shards), [[document("b")]])
        out, counters = run(tmp_path / f"{shards}", documents, kind="bpe", vocab_size=400, max_bytes=5000)
        assert 4000 < counters.values["sample_bytes"] <= 5000
        assert counters.documents_out == 40
        taken.append((sha256_file(out / "tokenizer.json"), counters.values))
    assert taken[0] == taken[1]


def test_one_document_of_one_character_is_enough(tmp_path: Path) -> None:
    documents = parts(tmp_path / "in", [[document("a")], []], [[], [document("a")]])
    for kind, size in (("bpe", 257), ("characters", 2)):
        _, counters = run(tmp_path / kind, documents, kind=kind)
        assert counters.values["vocab_size"] == size


def test_no_training_documents_are_an_error_about_the_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"split\.validation_fraction"):
        run(tmp_path, parts(tmp_path / "in", [[]], [[document("b")]]), kind="bpe")


@pytest.mark.parametrize(
    ("cfg", "named"),
    [
        ({"vocab_size": 256}, "vocab_size"),
        ({"special_tokens": ["user"]}, "special_tokens"),
        ({"special_tokens": [END_OF_DOCUMENT]}, "special_tokens"),
        ({"special_tokens": ["<|a|>", "<|a|>"]}, "special_tokens"),
    ],
)
def test_a_wrong_config_names_the_field(cfg: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        TokenizerConfig(**{"kind": "bpe"} | cfg)


@pytest.mark.parametrize("kind", list(GOLDEN))
def test_golden(tmp_path: Path, kind: str) -> None:
    """Changes only with the step's VERSION."""
    assert tokenizer.version == 1
    cfg = {"kind": "characters"} if kind == "characters" else {"kind": "bpe", "pattern": kind, "vocab_size": 400}
    out, _ = run(tmp_path, **cfg)
    assert Artifact.of(out).content == GOLDEN[kind]
