"""A recipe that cuts repeats and decontaminates, by the real steps: what becomes of its pages, and what a plan says."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flows.recipe import Recipe, load_recipe
from flows.runs import make_plan
from flows.summary import STEPS
from flows.train_from_scratch import corpus_steps
from infra.artifacts import ArtifactStore
from infra.execution import LocalRunner, Options
from infra.processes import Workers
from infra.settings import settings
from infra.steps import executing
from tasks.documents import iter_rows
from tasks.explain import find_ways, lineage
from tests.running import TINY

NOTICE = "All rights of this page are reserved by the miller and his heirs."
QUESTION = "Which of the two wheels of the old mill turned first when the ice on the brook had melted?"
PAGES = {
    "https://a.test/first": f"The story of the mill is long and begins here.\n{NOTICE}\nAnd this is its end.",
    "https://a.test/second": f"Another page.\n{NOTICE}\nThat was it.",
    "https://a.test/quiz": f"The quiz of the week: {QUESTION.upper()} Write to us.",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the pages and the questions."""
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    (tmp_path / "corpus").mkdir()
    lines = [json.dumps({"url": url, "text": text}) for url, text in PAGES.items()]
    (tmp_path / "corpus" / "pages.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "quiz.csv").write_text(f'question\n"{QUESTION}"\n')
    yield tmp_path
    settings.cache_clear()


def recipe() -> Recipe:
    sources = [{**TINY["ingest"]["sources"][0], "url_field": "url"}]
    left_out = dict.fromkeys(("annotate", "select", "redact", "dedup", "normalise"))
    own = {
        "ingest": {"sources": sources},
        "repeats": {"min_words_left": 1},
        "decontaminate": {"sets": [{"kind": "files", "name": "quiz", "paths": ["quiz.csv"], "fields": ["question"]}]},
    }
    Path("recipe.yaml").write_text(yaml.safe_dump({**TINY, **left_out, **own}))
    return load_recipe("recipe.yaml")


def test_pages_are_cut_and_dropped_and_explained(folder: Path) -> None:
    store = ArtifactStore(settings().storage)
    with Workers(1) as workers, executing(LocalRunner(store, workers, Options(until="decontaminate", order=STEPS))):
        corpus_steps(recipe())
    (made,) = store.published("decontaminate")
    rows = {row["url"]: row["text"] for file in made.files("documents") for row in iter_rows(file)}
    first, second, quiz = PAGES
    assert rows == {first: PAGES[first], second: "Another page.\nThat was it."}
    assert json.loads(made.file("report.json").read_bytes())["tasks"][0]["documents_hit"] == 1

    trail = lineage(store)
    assert trail is not None
    ways = {url: find_ways(trail, url).ways[0] for url in PAGES}
    assert ways[quiz].outcome == "dropped by decontaminate: contaminated:quiz"
    (overlap,) = ways[quiz].stages[-1].facts["overlap"]
    assert overlap.startswith("quiz, item 0, characters 22 to ")
    stages = {stage.step: stage for stage in ways[second].stages}
    assert (stages["repeats"].outcome, stages["decontaminate"].outcome) == ("changed", "kept")
    assert stages["repeats"].facts["cut"] == [f"paragraph, characters 14 to 80, stays in {first}: {NOTICE}"]
    assert {stage.step: stage.outcome for stage in ways[first].stages}["repeats"] == "kept"

    (folder / "quiz.csv").write_text("question\nWho then?\n")
    states = {record.step: record.state for record in make_plan(recipe(), store).records}
    assert (states["repeats"], states["decontaminate"]) == ("cached", "pending")
