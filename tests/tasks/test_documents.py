"""The tables between the steps: what is written comes back, in bounded pieces, the same bytes each time."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.manifests import File
from tasks import documents
from tasks.documents import DOCUMENTS, PAGES, count_rows, document_id, iter_rows, metadata_json, read_table, storable


def _document(i: int, text: str = "text") -> dict[str, Any]:
    url = f"http://mill.example/{i}"
    return {
        "id": document_id(url, text),
        "text": text,
        "url": url,
        "source": "test",
        "metadata": "{}",
        "file": "raw",
        "offset": i,
    }


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    rows = [
        _document(i, text) for i, text in enumerate(["", "a\0b", "línea\nsegunda", "\U0001f40e" * 50, "x" * 3_000_000])
    ]
    path = tmp_path / "part.parquet"
    assert documents.write_parquet(path, rows, DOCUMENTS) == 5
    back = list(iter_rows(File.of(path)))
    assert [{k: v for k, v in row.items() if v is not None} for row in back] == rows
    assert read_table(path).schema == DOCUMENTS


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    rows = [_document(i) for i in range(100)]
    for name in ("a", "b"):
        documents.write_parquet(tmp_path / name, rows, DOCUMENTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_without_rows_is_still_a_table(tmp_path: Path) -> None:
    assert documents.write_parquet(tmp_path / "none.parquet", [], PAGES) == 0
    assert count_rows(tmp_path / "none.parquet") == 0
    assert read_table(tmp_path / "none.parquet").schema == PAGES


@pytest.mark.parametrize("as_table", [False, True])
def test_large_texts_are_cut_into_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_table: bool) -> None:
    monkeypatch.setattr(documents, "ROW_GROUP_BYTES", 10_000)
    rows = [_document(i, "x" * 3000) for i in range(20)]
    table = pa.Table.from_pylist(rows, schema=DOCUMENTS) if as_table else rows
    documents.write_parquet(tmp_path / "part.parquet", table, DOCUMENTS)
    assert pq.ParquetFile(tmp_path / "part.parquet").num_row_groups >= 5
    assert [row["offset"] for row in iter_rows(tmp_path / "part.parquet", ["offset"])] == list(range(20))


def test_a_null_where_there_must_be_a_value_is_refused(tmp_path: Path) -> None:
    row = {**_document(0), "url": None}
    with pytest.raises((ValueError, pa.ArrowException)):
        documents.write_parquet(tmp_path / "part.parquet", [row], DOCUMENTS)


def test_an_id_tells_url_and_text_apart() -> None:
    ids = {document_id("ab", "c"), document_id("a", "bc"), document_id("ab", "d"), document_id("", "abc")}
    assert len(ids) == 4
    assert all(len(i) == 32 for i in ids)
    assert document_id("http://mill.example/", "text") == "1a15b5e4f64f4c92bb2314d77631d75c"


_VALUES = st.recursive(st.none() | st.booleans() | st.floats() | st.binary() | st.text(), st.lists, max_leaves=8)


@settings(max_examples=60)
@given(st.dictionaries(st.text(max_size=8), _VALUES, max_size=5))
def test_any_metadata_becomes_canonical_json(values: dict[str, Any]) -> None:
    text = metadata_json(values)
    assert isinstance(json.loads(text), dict)
    assert text == metadata_json(dict(reversed(values.items())))
    text.encode()


def test_metadata_keeps_dates_as_iso() -> None:
    assert metadata_json({"day": date(2026, 1, 2), "n": 1}) == '{"day":"2026-01-02","n":1}'


@given(st.text(alphabet=st.characters(), max_size=20))
def test_text_that_utf8_can_hold_is_left_alone(text: str) -> None:
    stored = storable(text)
    stored.encode()
    assert stored == text or any("\ud800" <= c <= "\udfff" for c in text)
