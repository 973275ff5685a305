"""A broken installation must not look like a corpus of empty pages."""

import json
from pathlib import Path

import pytest

from tests.running import World

pytestmark = pytest.mark.slow

PAGE = "<html><head><title>{0}</title></head><body><article><p>{1}</p></article></body></html>"


@pytest.fixture
def world(tmp_path: Path, prefect_server: str) -> World:
    (tmp_path / "pages").mkdir()
    for i in range(4):
        text = f"Page {i} tells of the river and of the mill that it drives, day after day. " * 8
        (tmp_path / "pages" / f"{i}.html").write_text(PAGE.format(i, text))
    return World(tmp_path, {"PREFECT_API_URL": prefect_server})


def _recipe(world: World) -> str:
    return world.recipe(ingest={"sources": [{"kind": "files", "name": "pages", "paths": ["pages/*.html"]}]})


def test_pages_are_extracted_where_nothing_is_missing(world: World) -> None:
    summary = world.summary(_recipe(world), "--until", "extract")
    assert summary["funnel"][-1]["documents_out"] == 4


def test_a_missing_package_fails_the_run_and_is_named_on_one_line(world: World) -> None:
    hidden = world.folder / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'lxml_html_clean':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    world.environment["PYTHONPATH"] = f"{hidden}:{Path(__file__).resolve().parents[2]}"
    failed = world.run("run", _recipe(world), status=None)
    assert failed.returncode in (1, 2)
    assert "Traceback" not in failed.stderr
    reason = failed.stderr.strip().splitlines()[-1]
    assert reason.startswith("millrace: ")
    assert "lxml_html_clean" in reason
    assert not list((world.folder / ".millrace" / "artifacts").glob("extract/*/manifest.json"))


def test_pages_that_all_yield_nothing_fail_the_run_with_reason_and_examples(world: World) -> None:
    for path in (world.folder / "pages").iterdir():
        path.write_text("<html><body><script>var nothing = 1;</script></body></html>")
    failed = world.run("run", _recipe(world), status=None)
    assert failed.returncode == 1
    reason = failed.stderr.strip().splitlines()[-1]
    assert "extract: 4 of 4 documents were dropped" in reason
    assert ".html" in reason
    (run,) = (world.folder / ".millrace" / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"
