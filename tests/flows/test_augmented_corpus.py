"""A recipe that keeps duplicates, augments and splits by strata, by the real steps: who ends where."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.recipe import Recipe, load_recipe
from flows.runs import make_plan
from flows.summary import STEPS
from flows.train_from_scratch import corpus_steps
from infra.artifacts import Artifact, ArtifactStore
from infra.errors import UserError
from infra.execution import LocalRunner, Options
from infra.processes import Workers
from infra.settings import settings
from infra.steps import executing
from tasks.documents import iter_rows
from tasks.explain import find_ways, lineage
from tasks.split import ALL_PARTS
from tests.running import TINY
from tests.tasks.chat_server import chat_server, completion

KEY = "sk-of-the-miller-1899"
PAIRS = 30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with pages, each of which stands there twice, and a table of synonyms."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILL_KEY", KEY)
    settings.cache_clear()
    (tmp_path / "corpus").mkdir()
    for copy in range(2):
        lines = [
            json.dumps({"url": f"http://mill/{copy}/{i}", "text": f"The old mill{' ' * (copy + 1)}number {i} turns."})
            for i in range(PAIRS)
        ]
        (tmp_path / "corpus" / f"{copy}.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "synonyms.tsv").write_text("old\tancient\nmill\tgrinder\n")
    yield tmp_path
    settings.cache_clear()


def recipe(base_url: str, **changes: Any) -> Recipe:
    sources = [{**TINY["ingest"]["sources"][0], "url_field": "url"}]
    left_out = dict.fromkeys(("annotate", "select", "redact", "normalise"))
    methods = [
        {"kind": "synonyms", "table": "synonyms.tsv"},
        {
            "kind": "endpoint", "base_url": base_url, "model": "m", "api_key_env": "MILL_KEY",
            "task": {"kind": "rephrase"}, "choose": {"share": 0.5},
        },
    ]  # fmt: skip
    own = {
        "ingest": {"sources": sources},
        "dedup": {"remove": False, "minhash": False},
        "augment": {"methods": methods},
        "split": {"method": "stratified", "validation_fraction": 0.2, "test_fraction": 0.1},
    }
    Path("recipe.yaml").write_text(yaml.safe_dump({**TINY, **left_out, **own, **changes}))
    return load_recipe("recipe.yaml")


def table(made: Artifact, folder: str) -> list[dict[str, Any]]:
    return [row for file in made.files(folder) for row in iter_rows(file)]


def test_duplicates_and_what_was_made_of_them_stay_together(folder: Path) -> None:
    store = ArtifactStore(settings().storage)
    with chat_server(lambda asked, before: completion(f"Again: {asked.text}")) as server:
        cfg = recipe(server.url)
        with Workers(1) as workers, executing(LocalRunner(store, workers, Options(until="split", order=STEPS))):
            corpus_steps(cfg)
        assert {asked.authorization for asked in server.asked} == {f"Bearer {KEY}"}
    (augmented,), (split,) = store.published("augment"), store.published("split")
    parts = {part: table(split, part) for part in ALL_PARTS}
    of = {
        row["id"]: json.loads(row["metadata"]).get("augmented", {}).get("of") for row in table(augmented, "documents")
    }
    originals = {id for id, original in of.items() if original is None}
    assert len(originals) == 2 * PAIRS
    found = {row["id"]: part for part, rows in parts.items() for row in rows}
    assert Counter(found[id] for id in originals) == {"train": 42, "validation": 12, "test": 6}
    pages = {row["url"]: part for part, rows in parts.items() for row in rows if row["id"] in originals}
    assert all(pages[f"http://mill/0/{i}"] == pages[f"http://mill/1/{i}"] for i in range(PAIRS))
    for id, original in of.items():
        if original is not None:
            assert found.get(id) == ("train" if found[original] == "train" else None)
    gone = {row["id"]: row["reasons"] for row in table(split, "dropped")}
    assert set(gone) == set(of) - set(found)
    assert {reason for reasons in gone.values() for reason in reasons} == {"augmented_of_held_out"}

    trail = lineage(store)
    assert trail is not None
    copy, original = next((id, of[id]) for id in sorted(gone) if of[id])
    (way,) = find_ways(trail, copy).ways  # the page of its original
    assert way.id == original
    stages = {stage.step: stage for stage in way.stages}
    assert any(told.startswith(f"{copy} (") for told in stages["augment"].facts["copies"])
    assert way.outcome == f"kept, in {found[original]}"

    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]

    def states(planned: Recipe) -> dict[str, str]:
        return {record.step: record.state for record in make_plan(planned, store).records}

    assert states(recipe("http://another.test:8000/v1"))["augment"] == "cached"
    (folder / "synonyms.tsv").write_text("old\taged\n")
    assert states(cfg)["augment"] == "pending"
    (folder / "synonyms.tsv").unlink()
    with pytest.raises(UserError, match=r"augment\.methods\[0\]\.table: synonyms\.tsv: not found"):
        states(cfg)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": {"method": "position"}}, "augment: with split.method=position a piece of each original is held out"),
        ({"split": {"method": "hash", "test_fraction": 0.99}}, r"split\.test_fraction: 0\.99 and valid"),
        ({"split": {"method": "time", "validation_from": "soon"}}, r"split\.validation_from: .*'soon'"),
        ({"split": {"method": "hash", "undated": "drop"}}, r"split\.undated: means something with method time alone"),
        ({"augment": {"methods": []}}, r"augment\.methods: .*at least 1"),
        ({"augment": {"methods": [{"kind": "synonym"}]}}, r"augment\.methods\[0\]\.kind: .*did you mean synonyms"),
        ({"augment": {"methods": [{"kind": "synonyms"}]}}, r"augment\.methods\[0\]\.table: give either a table"),
        (
            {"augment": {"methods": [{"kind": "endpoint", "base_url": "http://x", "task": {"kind": "sing"}}]}},
            r"augment\.methods\[0\]\.task\.kind: no kind is called 'sing'; there is rephrase, back_translate, prompts",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_either_section_is_one_line_that_names_the_field(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        recipe("http://127.0.0.1:9/v1", **changes)
    assert "\n" not in str(caught.value)
