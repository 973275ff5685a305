"""What `millrace export` writes: the artifacts of a recipe as it is now, or of a run as it was."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from flows.cards import AFTER_CORPUS, card_config
from flows.recipe import Recipe, load_recipe
from flows.recipe_file import shipped
from flows.runs import look_up
from flows.summary import STEPS
from infra.artifacts import Artifact, ArtifactStore, Attempt
from infra.errors import UserError
from infra.manifests import File
from infra.retries import patiently
from infra.steps import Pending
from tasks.card.collect import SPLITS, collect
from tasks.card.facts import Facts

_BESIDE: Final = ("crawled-domains.csv",)
"""Files of a card that are more than a rendering of its facts."""


@dataclass(frozen=True)
class Origin:
    """A recipe and what has been made of it, by step or `STEP/SOURCE`, in order."""

    recipe: Recipe
    made: Mapping[str, Artifact]
    missing: Mapping[str, str]
    """Why there is no artifact, by step."""
    run_command: str

    def until(self, step: str) -> dict[str, Artifact]:
        """Return what was made up to `step`, and card's."""
        last = STEPS.index(step)
        return {role: a for role, a in self.made.items() if STEPS.index(role.partition("/")[0]) <= last}


def origin(text: str, store: ArtifactStore, sets: list[str] | None, inputs: list[str] | None) -> Origin:
    """Return what `text` means: the id of a run in the store, the name of a shipped recipe, or a recipe's path."""
    if text not in shipped() and os.sep not in text and not text.endswith((".yaml", ".yml")):
        found = _of_run(text, store)
        if found is not None and (sets or inputs):
            raise UserError(f"{text}: is a run, which took no other recipe than its own; leave --set and --input out")
        if found is not None:
            return found
    recipe = load_recipe(text, sets=sets, inputs=inputs)
    planner = look_up(recipe, store, "card" if recipe.card is not None else "tokens")
    there = {role: artifact for role, artifact in planner.made().items() if not isinstance(artifact, Pending)}
    missing = {record.step: record.why for record in planner.records if record.artifact is None}
    return Origin(recipe, there, missing, f"millrace run {text}")


def _of_run(run: str, store: ArtifactStore) -> Origin | None:
    try:
        summary = json.loads(patiently(lambda: store.storage.read_bytes(f"runs/{run}/summary.json")))
        recipe = yaml.safe_load(patiently(lambda: store.storage.read_bytes(f"runs/{run}/recipe.yaml")))
    except FileNotFoundError:
        return None
    made: dict[str, Artifact] = {}
    for step in summary["steps"]:
        if step["digest"] is None:
            continue
        name, digest = str(step["step"]), str(step["digest"])
        artifact = patiently(lambda name=name, digest=digest: store.get(name, digest))  # type: ignore[misc]
        if artifact is not None:
            made[f"{name}/{step['source']}" if step.get("source") else name] = artifact
    return Origin(Recipe.model_validate(recipe), made, {}, summary["resume_command"])


@dataclass(frozen=True)
class Corpus:
    """What an export holds."""

    documents: dict[str, list[File]]
    signals: dict[str, list[File]]
    facts: Facts
    beside: dict[str, bytes]


def corpus(found: Origin, step: str, splits: Sequence[str], *, with_signals: bool) -> Corpus:
    """Return the files of documents that `step` made, by split, and the facts about them.

    Raises UserError where the step has no artifact, or none with documents, or not the splits or signals asked for.
    """
    artifact = next((made for role, made in found.made.items() if role.partition("/")[0] == step), None)
    if artifact is None:
        if step not in STEPS:
            raise UserError(f"--step {step}: there is no such step; the recipe has {', '.join(found.made)}")
        why = f" ({found.missing[step]})" if step in found.missing else ""
        others = [role for role, made in found.made.items() if made.files("documents")]
        hint = f", or --step {others[-1]} exports what there is" if others else ""
        command = f"`{found.run_command} --until {step}` makes it"
        raise UserError(f"{step} of {found.recipe.name} is not made yet{why}; {command}{hint}")
    documents = {name: artifact.files(name) for name in SPLITS if artifact.files(name)}
    if not documents:
        documents = {"train": artifact.files("documents")}
    if not any(documents.values()):
        raise UserError(f"--step {step}: makes no documents; try one of extract, normalise, select, dedup, split")
    for name in splits:
        if name not in documents:
            raise UserError(f"--split {name}: {step} has {', '.join(documents)}")
    chosen = {name: files for name, files in documents.items() if not splits or name in splits}
    signals = _signals(artifact, chosen) if with_signals else {}
    facts, beside = _facts(found, step)
    return Corpus(chosen, signals, facts, beside)


def _signals(artifact: Artifact, documents: Mapping[str, list[File]]) -> dict[str, list[File]]:
    found = {name: artifact.files(f"signals-{name}") or artifact.files("signals") for name in documents}
    if not all(found.values()):
        raise UserError(f"--with-signals: {artifact.step} holds no signals of its documents")
    return found


def _facts(found: Origin, step: str) -> tuple[Facts, dict[str, bytes]]:
    """Return the facts of the recipe's card where it is made, else gather them now."""
    card = found.made.get("card")
    if card is not None and step == "split":
        there = {file.path: file for file in card.files()}
        beside = {name: there[name].read_bytes() for name in _BESIDE if name in there}
        return Facts.model_validate_json(there["card.json"].read_bytes()), beside
    made = {role: a for role, a in found.until(step).items() if role.partition("/")[0] not in AFTER_CORPUS}
    with tempfile.TemporaryDirectory(prefix="millrace-export-") as folder:
        out = Attempt.at(Path(folder) / "card")
        facts = collect(card_config(found.recipe, made), made, out)
        beside = {name: path.read_bytes() for name in _BESIDE if (path := out.directory / name).exists()}
    return facts, beside
