"""Nasty files through `ingest` and `extract` in a worker: no crash, no hang, no full memory; all is counted."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from infra.artifacts import Attempt, Work
from infra.errors import UserError
from infra.manifests import Counters, File
from infra.processes import Workers
from tasks.documents import iter_rows
from tasks.extract import ExtractConfig
from tasks.ingest import IngestConfig
from tests.nasty.corpus import Nasty
from tests.nasty.nasty_archives import archives
from tests.nasty.nasty_records import records
from tests.nasty.nasty_texts import pages, texts

RESIDENT_BYTES = 1536 * 2**20
"""What a worker may take at most."""

_HANG_SECONDS = 240  # a busy machine is slow; without the bounds that these files are about it would be hours
_EXTRACT = ExtractConfig(timeout_seconds=2)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(1) as started:
        yield started


def case(nasty: Nasty) -> Any:
    return pytest.param(nasty, id=nasty.name, marks=[pytest.mark.slow] if nasty.slow else [])


def call(workers: Workers, module: str, config: Any, **inputs: Any) -> Counters:
    """Run a step in the worker and hold its peak of memory against the limit."""
    work: Work
    name = module.rpartition(".")[2]
    counters, work = workers.call(module, name, config, inputs, timeout=_HANG_SECONDS, lost=threading.Event())
    counters.check(name)
    assert work.peak_memory_bytes < RESIDENT_BYTES, f"{name} took {work.peak_memory_bytes / 2**20:.0f} MiB"
    return counters  # type: ignore[no-any-return]


def rows(out: Attempt, folder: str) -> list[dict[str, Any]]:
    columns = {"documents": ["text"], "pages": ["url", "file", "offset"]}.get(folder)
    return [row for path in sorted((out.directory / folder).iterdir()) for row in iter_rows(path, columns)]


def ingested(workers: Workers, path: Path, source: dict[str, Any], out: Attempt) -> Counters:
    """Ingest one file; what is counted is what lies in the tables."""
    counters = call(
        workers, "tasks.ingest", IngestConfig.model_validate({"source": source}), files=_file(path), out=out
    )
    assert len(rows(out, "pages")) == counters.documents_out
    assert Counter(row["reason"] for row in rows(out, "dropped")) == counters.dropped
    assert Counter(row["error"].partition(":")[0] for row in rows(out, "quarantine")) == counters.errors
    assert all("\n" not in row["error"] and row["file"] == path.name for row in rows(out, "quarantine"))
    return counters


def _file(path: Path) -> File:
    named = path.with_suffix(".bytes")  # the rows of Parquet are counted only of what Millrace wrote itself
    path.rename(named)
    return File.of(named, path.name)


def extracted(workers: Workers, out: Attempt, folder: Path) -> tuple[int, list[str]]:
    """Extract all pages; returns how many documents there are, and the texts of small ones."""
    found: list[str] = []
    for i, path in enumerate(sorted((out.directory / "pages").iterdir())):
        documents = Attempt.at(folder / str(i))
        call(workers, "tasks.extract", _EXTRACT, pages=File.of(path), out=documents)
        found += [row["text"] for row in rows(documents, "documents")]
    return len(found), found


@pytest.mark.parametrize("nasty", [case(n) for n in (*archives(), *records(), *texts(), *pages())])
def test_a_nasty_file_is_accounted_for(nasty: Nasty, workers: Workers, tmp_path: Path) -> None:
    path, out = tmp_path / nasty.name, Attempt.at(tmp_path / "out")
    path.write_bytes(nasty.data())
    pa.default_memory_pool().release_unused()  # gigabytes, which this process would keep for hundreds of tests
    if nasty.error:
        with pytest.raises(UserError) as raised:
            ingested(workers, path, nasty.config(), out)
        message = str(raised.value)
        assert re.search(nasty.error, message)
        assert "\n" not in message
        assert len(message) < 3000
        return
    counters = ingested(workers, path, nasty.config(), out)
    found = (counters.documents_out, counters.dropped, counters.errors)
    assert found == (nasty.kept, dict(nasty.dropped), dict(nasty.quarantined)), rows(out, "quarantine")[:3]
    if nasty.urls:
        assert tuple(row["url"] for row in rows(out, "pages")) == nasty.urls
    count, documents = extracted(workers, out, tmp_path / "documents")
    assert count == (nasty.kept if nasty.extracted is None else nasty.extracted)
    if nasty.texts:
        assert tuple(documents) == nasty.texts
