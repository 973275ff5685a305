"""Nasty files through the whole flow: everything is in the funnel, or there is one line and status 2."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.nasty.corpus import Nasty
from tests.nasty.nasty_archives import archives
from tests.nasty.nasty_records import parquet, records
from tests.nasty.nasty_texts import texts
from tests.running import World

_SMALL = 1_000_000
"""Bytes of a file of the run at most: the large ones are read one by one elsewhere, this is about all at once."""

_EVERY = 6
"""Each file is a shard of its own: some of them tell enough about how they are put together."""

_OPEN = {"max_quarantined": 1.0, "max_dropped": 1.0}


@pytest.fixture
def world(tmp_path: Path, prefect_server: str) -> World:
    return World(tmp_path, {"PREFECT_API_URL": prefect_server})


def written(cases: list[Nasty], folder: Path) -> list[Nasty]:
    """Write the small ones that a recipe can read without knowing them; returns which these are."""
    folder.mkdir()
    chosen = []
    for nasty in cases[::_EVERY]:
        if nasty.source or nasty.error or nasty.slow or "bomb" in nasty.name or "megabyte" in nasty.name:
            continue
        if len(data := nasty.data()) <= _SMALL:
            (folder / nasty.name).write_bytes(data)
            chosen.append(nasty)
    return chosen


def source(kind: str, name: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "paths": [name]}


def funnel(summary: dict[str, Any], stage: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in summary["funnel"] if entry["stage"] == stage)
    return found


@pytest.mark.slow
def test_a_run_over_nasty_files_accounts_for_all_of_them(world: World) -> None:
    cases = written(list(archives()), world.folder / "archives")
    cases += written([*records(), *texts()], world.folder / "files")
    assert len(cases) > 12
    sources = [source("warc", "archives"), source("files", "files")]
    recipe = world.recipe(ingest={"sources": sources}, extract={"timeout_seconds": 5, "gate": _OPEN})
    summary = world.summary(recipe, "--until", "extract")
    assert summary["status"] == "completed"
    ingest, extract = funnel(summary, "ingest"), funnel(summary, "extract")
    kept = sum(nasty.kept for nasty in cases)
    dropped: Counter[str] = sum((Counter(nasty.dropped) for nasty in cases), Counter())
    quarantined = sum(sum(nasty.quarantined.values()) for nasty in cases)
    assert (ingest["documents_out"], ingest["dropped"], ingest["quarantined"]) == (kept, dropped, quarantined)
    assert ingest["documents_in"] == kept + sum(dropped.values()) + quarantined
    assert extract["documents_in"] == kept
    assert extract["documents_out"] == sum(n.kept if n.extracted is None else n.extracted for n in cases)


@pytest.mark.slow
def test_schema_drift_between_files_is_no_trouble_or_one_line(world: World) -> None:
    folder = world.folder / "drift"
    folder.mkdir()
    (folder / "0.parquet").write_bytes(parquet({"text": ["first"], "n": [1]}))
    (folder / "1.parquet").write_bytes(parquet({"n": ["one"], "text": pa.array(["second"]).dictionary_encode()}))
    (folder / "2.parquet").write_bytes(parquet({"text": pa.array([b"third"], pa.large_binary()), "n": [{"deep": [1]}]}))
    (folder / "3.jsonl").write_text('{"n": null, "text": "fourth", "more": {"a": []}}\n')
    recipe = world.recipe(ingest={"sources": [source("files", "drift")]})
    assert funnel(world.summary(recipe, "--until", "extract"), "extract")["documents_out"] == 4
    (folder / "4.parquet").write_bytes(parquet({"body": ["fifth"]}))
    failed = world.run("run", recipe, "--until", "extract", "--json", status=2)
    told = [line for line in failed.stderr.splitlines() if "4.parquet" in line]
    assert len(told) == 1
    assert "has the text field 'text'" in told[0]
    assert "Traceback" not in failed.stderr
