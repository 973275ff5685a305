"""`dedup.against`: naming a batch names all that it stands on, and never the batch that is being made."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.recipe import load_recipe
from flows.references import earlier_batches
from flows.summary import STEPS
from flows.train_from_scratch import corpus_steps
from infra.artifacts import Artifact, ArtifactStore, Work
from infra.errors import UserError
from infra.execution import LocalRunner, Options
from infra.processes import Workers
from infra.settings import settings
from infra.steps import Step, executing
from tasks.dedup import DedupConfig, dedup
from tasks.documents import document_id
from tasks.explain import Trail, find_ways
from tasks.explain.trail import together
from tests.running import TINY
from tests.tasks.text_corpus import corpus, document, rows


class InThisProcess(Workers):
    """Calls steps where it is."""

    def __init__(self) -> None:
        pass

    def call(self, module: str, name: str, cfg: Any, inputs: dict[str, Any], **_: Any) -> tuple[Any, Work]:
        return Step.steps[name].fn(cfg, **inputs), Work()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactStore]:
    monkeypatch.setenv("MILLRACE_STORAGE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield ArtifactStore(settings().storage)
    settings.cache_clear()


def batch(store: ArtifactStore, texts: Sequence[str], against: Sequence[str] = (), **cfg: Any) -> Artifact:
    """What a run with these documents publishes, as the run of the name `batch-N`."""
    number = len(store.versions("corpus")) + len(list(Path.cwd().glob("in*")))
    kept = corpus(
        Path.cwd() / f"in{number}", [[document(text, f"http://{number}/{i}") for i, text in enumerate(texts)]]
    )
    config = DedupConfig(against=tuple(against), **cfg)
    with executing(LocalRunner(store, InThisProcess())):
        return dedup(config, kept=kept, **earlier_batches(config.against, kept=kept))


def texts(artifact: Artifact, folder: Path) -> list[str]:
    manifest = folder / "store" / "artifacts" / "dedup" / artifact.digest / artifact.manifest.attempt
    return sorted(row["text"] for row in rows(manifest, "documents"))


def test_to_name_the_last_batch_is_to_name_all_of_them(store: ArtifactStore, tmp_path: Path) -> None:
    first = batch(store, ["one", "two"])
    store.tag("january", "run", {"dedup": first})
    second = batch(store, ["two", "three"], ["january"])
    store.tag("february", "run", {"dedup": second})
    third = batch(store, ["one", "three", "four"], ["february"])
    assert third.counters.documents_out - third.counters.values["superseded"] == 1  # ties go to the smallest id
    whole = batch(store, ["one", "three", "four"], ["february", "january"], include_earlier=True)
    assert texts(whole, tmp_path) == ["four", "one", "three", "two"]
    (earlier,) = (entry for entry in whole.manifest.inputs if entry.role == "earlier")
    assert earlier.origins == [first.uri, second.uri]
    fourth = batch(store, ["one", "two", "three", "four", "five"], [whole.digest[:12]], include_earlier=True)
    assert texts(fourth, tmp_path) == ["five", "four", "one", "three", "two"]


def test_the_names_do_not_enter_the_identity_but_what_they_mean_does(store: ArtifactStore) -> None:
    first, other = batch(store, ["one"]), batch(store, ["two"])
    kept = corpus(Path.cwd() / "in9", [[document("three", "http://9")]])
    digests = []
    for name in (first.digest, f"dedup/{first.digest[:20]}", other.digest):
        config = DedupConfig(against=(name,))
        digests.append(dedup.identity(config, {"kept": kept, **earlier_batches(config.against, kept=kept)}).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_recipe_may_name_its_own_earlier_runs(store: ArtifactStore, tmp_path: Path) -> None:
    """Its name means the newest run, which after this run is this run: then it is the one before."""
    first = batch(store, ["one"])
    store.tag("weekly", "run-1", {"dedup": first})
    store.tag("weekly", "run-2", {"select": first})
    second = batch(store, ["two"], ["weekly"])
    store.tag("weekly", "run-3", {"dedup": second})
    kept = corpus(tmp_path / "in1", [[document("two", "http://1/0")]])
    assert earlier_batches(["weekly"], kept=kept) == {"earlier": first}
    third = corpus(tmp_path / "in7", [[document("three", "http://7")]])
    assert len(earlier_batches(["weekly"], kept=third)["earlier"].origins) == 2
    for named in (second.digest, "weekly@run-3"):
        with pytest.raises(UserError, match=r"^dedup.against\[0\]: .* these same documents .* name a batch before it"):
            earlier_batches([named], kept=kept)


def test_what_is_not_there_is_said_by_its_field(store: ArtifactStore) -> None:
    first = batch(store, ["one"])
    second = batch(store, ["two"], [first.digest])
    with pytest.raises(UserError, match=r"^dedup.against\[1\]: .*no such artifact"):
        earlier_batches([second.digest, "fff"], kept=second)
    store.storage.delete(f"artifacts/dedup/{first.digest}/manifest.json")
    with pytest.raises(UserError, match=r"^dedup.against\[0\]: .* was deduplicated against .*, which is not there now"):
        earlier_batches([second.digest], kept=second)


def recipe_run(store: ArtifactStore, name: str, texts: dict[str, str], **cfg: Any) -> Trail:
    """Run a recipe of one file of pages (URL -> text) as far as its split."""
    lines = [json.dumps({"url": url, "text": text}) for url, text in texts.items()]
    Path(f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    source = {"kind": "files", "name": "pages", "paths": [f"{name}.jsonl"], "url_field": "url"}
    sections = {"normalise": None, "annotate": None, "select": None, "redact": None, "dedup": cfg}
    recipe = Path(f"{name}.yaml")
    recipe.write_text(yaml.safe_dump({**TINY, **sections, "name": name, "ingest": {"sources": [source]}}))
    runner = LocalRunner(store, InThisProcess(), Options(until="split", order=STEPS))
    with executing(runner):
        corpus_steps(load_recipe(str(recipe)))
    made = {record.step: record.artifact for record in runner.records if record.artifact is not None}
    store.tag(name, "run", made)
    return together(name, made.values())


def test_a_page_of_an_earlier_batch_is_explained_to_its_end(store: ArtifactStore) -> None:
    stays, short, twice, new = (f"http://site.test/{name}" for name in ("stays", "short", "twice", "new"))
    first = {stays: "It stays here.", short: "A page.", twice: "Said twice."}
    recipe_run(store, "january", first, url=True)
    february = recipe_run(
        store, "february", {twice: "Said twice.", short: "A longer page."}, url=True, against=["january"]
    )
    alone = recipe_run(store, "march", {new: "It is new."}, url=True, against=["february"])
    whole = recipe_run(store, "all", {new: "It is new."}, url=True, against=["february"], include_earlier=True)

    def told(trail: Trail, query: str) -> tuple[str, dict[str, Any]]:
        (way,) = find_ways(trail, query).ways
        return way.outcome, [stage for stage in way.stages if stage.step == "dedup"][-1].facts

    outcome, facts = told(february, twice)
    assert outcome == "dropped by dedup: exact"
    assert facts["kept_in"].startswith("an earlier batch, dedup ")
    assert facts["meaning"] == "the same document, which is kept from another place"
    outcome, facts = told(alone, document_id(short, "A page."))
    assert outcome == "dropped by dedup: superseded, url"
    assert facts["kept_id"] == document_id(short, "A longer page.")
    outcome, facts = told(alone, stays)
    assert outcome == "kept by dedup"
    assert "include_earlier" in facts["meaning"]
    for url in (stays, new):
        assert told(whole, url)[0].startswith("kept, in ")
    outcomes = [way.outcome for way in find_ways(whole, twice).ways]  # the newest batch first
    assert outcomes[0] == "dropped by dedup: exact"
    assert outcomes[1].startswith("kept, in ")
    with pytest.raises(UserError, match="has no page with this URL"):
        find_ways(whole, "http://nowhere.test/")
