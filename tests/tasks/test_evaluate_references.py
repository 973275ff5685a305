"""The lines that a model is compared with are what their names say, on exactly the text that is judged."""

import gzip
import lzma
import math
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from infra.manifests import File
from tasks.documents import DOCUMENTS, document_id, write_parquet
from tasks.evaluate.heldout import held_out
from tasks.evaluate.references import (
    count_tokens,
    gzip_bits_per_byte,
    total_nats,
    unigram_nats,
    xz_bits_per_byte,
)
from tasks.evaluate.tally import Tally, references, verdict

WORDS = ["the", "mill", "turns", "while", "water", "runs", "and", "wheels", "grind", "grain", "ümlaut", "水車"]


def text(seed: int, words: int) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choices(WORDS, k=words))


TEXTS = [text(n, 2000) for n in range(5)]
WHOLE = "".join(TEXTS).encode()


def test_the_gzip_line_is_gzip_nine_of_the_text_in_one_piece() -> None:
    assert gzip_bits_per_byte(TEXTS) == 8 * len(gzip.compress(WHOLE, 9, mtime=0)) / len(WHOLE)


def test_the_xz_line_is_xz_nine_of_the_text_in_one_piece() -> None:
    assert xz_bits_per_byte(TEXTS) == 8 * len(lzma.compress(WHOLE, preset=9)) / len(WHOLE)


@pytest.mark.parametrize(("command", "measure"), [("gzip", gzip_bits_per_byte), ("xz", xz_bits_per_byte)])
def test_the_programs_agree(command: str, measure: object) -> None:
    if not shutil.which(command):
        pytest.skip(f"no {command} here")
    packed = subprocess.run([command, "-9", "-c"], input=WHOLE, capture_output=True, check=True).stdout
    assert callable(measure)
    assert measure(TEXTS) == pytest.approx(8 * len(packed) / len(WHOLE), rel=0.01)


def test_unigram_is_add_one_over_the_training_tokens(tmp_path: Path) -> None:
    for number, ids in enumerate(([0, 0, 1], [2, 0])):
        np.array(ids, "<u2").tofile(tmp_path / f"{number}.bin")
    counts = count_tokens(sorted(tmp_path.iterdir()), "uint16", 4)
    assert counts.tolist() == [3, 1, 1, 0]
    nats = unigram_nats(counts)
    assert np.exp(-nats).tolist() == pytest.approx([4 / 9, 2 / 9, 2 / 9, 1 / 9])
    assert total_nats(nats, np.array([0, 3])) == pytest.approx(-math.log(4 / 9) - math.log(1 / 9))


def test_uniform_over_the_vocabulary_costs_its_logarithm_a_token() -> None:
    lines = references(Tally(bytes=100, tokens=50), 256, 1, gzip=3.0, xz=2.0)
    assert lines["reference/uniform-tokens"]["bits_per_byte"] == pytest.approx(4.0)
    assert lines["reference/uniform-bytes"]["bits_per_byte"] == 8.0
    assert all(line["saw"] for line in lines.values())


@pytest.mark.parametrize(
    ("ours", "below"),
    [
        (1.0, (True, True, True, True)),
        (2.5, (True, True, True, False)),
        (3.2, (True, True, False, False)),
        (3.7, (True, False, False, False)),
        (5.0, (False, False, False, False)),
    ],
)
def test_the_verdict_compares_with_each_line(ours: float, below: tuple[bool, ...]) -> None:
    total = Tally(bytes=1, tokens=1, unigram_nats=4 * math.log(2), ngram_nats=3.5 * math.log(2))
    lines = references(total, 256, 1, gzip=3.0, xz=2.0)
    said = verdict({"validation": {"bits_per_byte": ours}, **lines})
    assert (said["below_unigram"], said["below_5_gram"], said["below_gzip_9"], said["below_xz_9"]) == below
    assert said["learned"] == below[0]


def shard(path: Path, texts: list[str], source: str) -> File:
    rows = [
        {"id": document_id(source, text), "text": text, "url": "u", "source": source, "metadata": "{}", "file": "f"}
        for text in texts
    ]
    write_parquet(path, rows, DOCUMENTS)
    return File.of(path)


def texts_of(files: list[File], limit: int) -> list[tuple[str, str]]:
    documents = list(held_out(files, limit))
    assert all(document.bytes == len(document.text.encode()) for document in documents)
    return [(document.source, document.text) for document in documents]


@pytest.mark.parametrize(
    ("limit", "one", "two"),
    [
        (1000, 12, 27),
        (18, 9, 9),  # half for each
        (30, 12, 18),  # what one lacks, the other gets
        (22, 11, 9),  # 11 each, but a character is three bytes
    ],
)
def test_each_source_gets_its_share_of_a_limit_and_no_character_is_split(
    tmp_path: Path, limit: int, one: int, two: int
) -> None:
    files = [
        shard(tmp_path / "0.parquet", ["aaaa", "", "bbbb", "cccc"], "one"),
        shard(tmp_path / "1.parquet", ["水水水", "山山山", "川川川"], "two"),
    ]
    sizes = {"one": 0, "two": 0}
    for source, text in texts_of(files, limit):
        sizes[source] += len(text.encode())
    assert sizes == {"one": one, "two": two}


def test_the_choice_is_no_beginning_and_the_same_whatever_the_shards(tmp_path: Path) -> None:
    texts = [f"text {n:04d}" for n in range(100)]
    whole = texts_of([shard(tmp_path / "whole.parquet", texts, "one")], 180)
    parts = [shard(tmp_path / f"{n}.parquet", texts[n::3], "one") for n in (2, 0, 1)]
    assert texts_of(parts, 180) == whole
    assert len(whole) == 20
    assert min(text for _, text in whole) < "text 0030" < "text 0070" < max(text for _, text in whole)
