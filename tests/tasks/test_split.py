"""What a user of `split` relies on: the promised share, nothing lost, nothing on both sides."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.artifacts import Artifact, Attempt
from infra.canonical import digest_of
from infra.errors import UserError
from infra.manifests import Counters, File
from tasks.documents import write_parquet
from tasks.split import DOCUMENTS, SplitConfig, divide, require_both_parts, split
from tests.tasks.text_corpus import document, rows, write_folder

GOLDEN = "73565f83dfb7d2944b5b8e6ec0951587f03e8ccc7f03fc77b45cf6b12d4d3f6e"


def run(tmp_path: Path, documents: list[dict[str, Any]], **cfg: Any) -> tuple[Path, Counters]:
    path = tmp_path / "documents.parquet"
    write_parquet(path, documents, DOCUMENTS)
    out = tmp_path / "out"
    counters = split.fn(SplitConfig(**cfg), File.of(path), Attempt.at(out))
    counters.check("split")
    return out, counters


def test_hash_holds_out_the_fraction_and_loses_nothing(tmp_path: Path) -> None:
    documents = [document(f"text {i}") for i in range(5000)]
    out, counters = run(tmp_path, documents, method="hash", validation_fraction=0.1)
    train, validation = ({row["id"] for row in rows(out, part)} for part in ("train", "validation"))
    assert train | validation == {row["id"] for row in documents}
    assert not train & validation
    assert abs(len(validation) / 5000 - 0.1) < 0.02
    assert counters.documents_out == 5000
    assert counters.values == {"train_documents": len(train), "validation_documents": len(validation)}


def test_hash_decides_each_document_by_itself() -> None:
    cfg = SplitConfig(method="hash", validation_fraction=0.5)
    documents = [document(f"text {i}") for i in range(100)]
    chosen = [set(divide(cfg, row)) for row in documents]
    assert [set(divide(cfg, row | {"source": "other", "date": "2020"})) for row in documents] == chosen
    other = cfg.model_copy(update={"seed": 1})
    assert [set(divide(other, row)) for row in documents] != chosen


def test_a_larger_fraction_only_adds_to_validation() -> None:
    documents = [document(f"text {i}") for i in range(300)]
    held = [
        {
            row["id"]
            for row in documents
            if "validation" in divide(SplitConfig(method="hash", validation_fraction=f), row)
        }
        for f in (0.05, 0.2, 0.6)
    ]
    assert held[0] < held[1] < held[2]


@given(st.text(), st.floats(0.001, 0.999))
def test_position_divides_a_text_without_loss(text: str, fraction: float) -> None:
    cfg = SplitConfig(method="position", validation_fraction=fraction)
    divided = divide(cfg, document(text))
    assert divided.get("train", "") + divided.get("validation", "") == text
    assert divided
    assert all(divided.values()) or text == ""


def test_position_is_nanogpts_split(shared_data: Path) -> None:
    data = (shared_data / "text" / "tinyshakespeare.txt").read_text()
    divided = divide(SplitConfig(method="position", validation_fraction=0.1), document(data))
    assert divided == {"train": data[: int(len(data) * 0.9)], "validation": data[int(len(data) * 0.9) :]}
    assert {part: len(text) for part, text in divided.items()} == {"train": 1_003_854, "validation": 111_540}


def test_position_counts_documents_not_halves(tmp_path: Path) -> None:
    out, counters = run(tmp_path, [document("0123456789"), document("x")], method="position", validation_fraction=0.1)
    assert (counters.documents_in, counters.documents_out) == (2, 2)
    assert [row["text"] for row in rows(out, "train")] == ["012345678"]
    assert [row["text"] for row in rows(out, "validation")] == ["9", "x"]
    assert rows(out, "train")[0]["id"] == rows(out, "validation")[0]["id"] == document("0123456789")["id"]


def test_an_empty_shard_gives_two_empty_files(tmp_path: Path) -> None:
    out, counters = run(tmp_path, [], method="hash")
    assert counters.documents_in == 0
    assert rows(out, "train") == rows(out, "validation") == []
    assert len(Artifact.of(out).files("train")) == len(Artifact.of(out).files("validation")) == 1


@pytest.mark.parametrize(("empty", "advice"), [("train", "lower"), ("validation", "raise")])
def test_an_empty_part_is_an_error_that_says_what_to_set(tmp_path: Path, empty: str, advice: str) -> None:
    write_folder(tmp_path, "train", [[] if empty == "train" else [document("a")]])
    write_folder(tmp_path, "validation", [[] if empty == "validation" else [document("b")], []])
    with pytest.raises(UserError, match=rf"fell into {empty}; {advice} split\.validation_fraction"):
        require_both_parts(Artifact.of(tmp_path))


def test_golden(tmp_path: Path) -> None:
    """Changes only with the step's VERSION."""
    assert split.version == 1
    found = []
    for method in ("hash", "position"):
        documents = [document(f"text number {i}") for i in range(40)]
        out, counters = run(tmp_path, documents, method=method, validation_fraction=0.2)
        found.append([rows(out, "train"), rows(out, "validation"), counters.model_dump()])
    assert digest_of(found) == GOLDEN
