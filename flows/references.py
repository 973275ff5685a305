"""Artifacts that a recipe names: of another run, by its name, or by their digest."""

from collections.abc import Sequence
from typing import Final

from infra.artifacts import Artifact, ArtifactStore
from infra.errors import UserError
from infra.retries import patiently
from infra.settings import settings
from infra.steps import Pending, gather
from tasks.pretrain import TOKENIZER_FILES, PretrainConfig, shape_differences

MODELS: Final = ("pretrain", "import")
"""Steps that make models."""


def referenced(text: str, step: str, field: str) -> Artifact:
    """Return the artifact of `step` that `text`, the value of a recipe's `field`, means.

    `NAME` is what the last run of that name made, `NAME@VERSION` what a certain one made; else a digest or the
    beginning of one.  Raises UserError that begins with the field.
    """
    store = ArtifactStore(settings().storage)
    try:
        found = patiently(lambda: _found(store, text, step))
    except UserError as exc:
        raise UserError(f"{field}: {exc}") from exc
    if found.step != step:
        raise UserError(f"{field}: {text} is an artifact of {found.step}, not of {step}")
    return found


def _found(store: ArtifactStore, text: str, step: str) -> Artifact:
    name, _, version = text.partition("@")
    versions = store.versions(name)
    if not versions:
        return store.find(text if "/" in text else f"{step}/{text}")
    if version and version not in versions:
        raise UserError(f"{name} has no version {version}; it has {', '.join(versions[-5:])}")
    for each in [version] if version else reversed(versions):
        if (artifact := store.tagged(name, each).get(step)) is not None:
            return artifact
    raise UserError(f"no run of {text} has made {step}")


def initial_weights(text: str | None) -> dict[str, Artifact]:
    """Return the input `initial` of `pretrain`: the trained or imported model that `text` means; nothing for None."""
    if text is None:
        return {}
    missing: UserError | None = None
    for step in MODELS:
        try:
            return {"initial": referenced(text, step, "pretrain.initial_weights")}
        except UserError as exc:
            missing = missing or exc
    assert missing is not None
    raise missing


def check_shape(cfg: PretrainConfig, earlier: dict[str, Artifact]) -> None:
    """Raise UserError, before a corpus is made for it, where the earlier model has another shape than the recipe's."""
    for model in earlier.values():
        if differ := shape_differences(cfg, model):
            raise UserError(f"pretrain.initial_weights: {model.uri}: {'; '.join(differ)}")


def vocabulary_of(text: str | None) -> Artifact:
    """Return the tokenizer of the model that `pretrain.initial_weights` means, as if it were one of `tokenizer`."""
    model = initial_weights(text)["initial"]
    files = [file for file in model.files() if file.path in TOKENIZER_FILES]
    return Artifact.external(files, "tokenizer", model.root, origins=(model.uri,))


def earlier_batches(against: Sequence[str], kept: Artifact) -> dict[str, Artifact]:
    """Return the input `earlier` of `dedup`: the batches that `dedup.against` names, after those that they stand on.

    A name means the last run of it that was not made of `kept` itself: so a recipe may name its own earlier runs, and
    is cached when it is run again.  Nothing where none is named.  Raises UserError that names the entry at fault.
    """
    store = ArtifactStore(settings().storage)
    found: dict[str, Artifact] = {}
    for i, text in enumerate(against):
        for batch in _before(store, text, kept, f"dedup.against[{i}]"):
            found.setdefault(batch.content, batch)
    return {"earlier": gather(list(found.values()))} if found else {}


def _before(store: ArtifactStore, text: str, kept: Artifact, field: str) -> list[Artifact]:
    """Return the newest batch that `text` means and that is not `kept` itself, after all that it stands on."""
    versions = patiently(lambda: store.versions(text)) if "@" not in text else []
    for name in [text, *(f"{text}@{version}" for version in reversed(versions))]:
        try:
            named = referenced(name, "dedup", field)
        except UserError:
            if name == text:
                raise
            continue  # a run that got no further than the steps before
        batches = [*_stands_on(store, named, field), named]
        if isinstance(kept, Pending) or not any(_made_of(batch, kept) for batch in batches):
            return batches
    raise UserError(
        f"{field}: {text} is, or stands on, what these same documents became in an earlier run; name a batch before it"
    )


def _stands_on(store: ArtifactStore, batch: Artifact, field: str) -> list[Artifact]:
    """Return all batches that one was deduplicated against, in order: its manifest lists them."""
    artifacts = []
    for entry in batch.manifest.inputs:
        for uri in entry.origins or [entry.uri or ""] if entry.role == "earlier" else ():
            digest = uri.rstrip("/").rpartition("/")[2]
            artifact = patiently(lambda digest=digest: store.get("dedup", digest))  # type: ignore[misc]
            if artifact is None:
                raise UserError(f"{field}: {batch.digest[:12]} was deduplicated against {uri}, which is not there now")
            artifacts.append(artifact)
    return artifacts


def _made_of(batch: Artifact, kept: Artifact) -> bool:
    content = kept.content_of(("documents", "signals"))
    return any(entry.role == "kept" and entry.content == content for entry in batch.manifest.inputs)
