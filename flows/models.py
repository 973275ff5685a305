"""Models that come from, and go to, Hugging Face's transformers."""

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flows.named_files import named_files
from flows.references import MODELS
from infra.artifacts import Artifact, ArtifactStore
from infra.errors import UserError
from infra.execution import LocalRunner
from infra.processes import Workers
from infra.retries import patiently
from infra.settings import settings
from infra.steps import executing
from infra.storage import Storage
from tasks.import_model import ImportConfig, import_model

_WANTED: Final = ("*.json", "*.safetensors", "*.jinja")


def imported(source: str, name: str | None) -> tuple[Artifact, str]:
    """Publish the model of a local folder or of the hub as an artifact called `name`, and return both.

    Raises UserError where there is none, or none that the network computes.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _from_hub(source)
    chosen = name or re.sub(r"[^a-z0-9._-]+", "-", Path(source.partition("@")[0]).name.lower()).strip("-._") or "model"
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", chosen):
        raise UserError(f"--name {chosen}: use small letters, digits, dots, dashes and underscores")
    files = named_files("import", {"model": ("model", str(folder))})
    store = ArtifactStore(settings().storage)
    patiently(store.storage.check)
    with Workers(1) as workers, executing(LocalRunner(store, workers)):
        artifact = import_model(ImportConfig(), files=files)
    version = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-import-{artifact.digest[:8]}"
    patiently(lambda: store.tag(chosen, version, {"import": artifact}))
    return artifact, chosen


def _from_hub(source: str) -> Path:
    """Return the local folder of a model of the hub, as `owner/name` or `owner/name@revision`."""
    repository, _, revision = source.partition("@")
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", repository):
        raise UserError(f"{source}: no such folder, and no name of a model of the hub either")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(_WANTED)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as exc:
        reason = " ".join(str(exc).split())[:200]
        raise UserError(f"{source}: no such folder, and the hub does not give such a model: {reason}") from exc


def exported(model: Artifact, destination: str, *, force: bool, check: bool) -> tuple[str, list[str]]:
    """Write a model as a folder that transformers loads; return the class that loads it and the files.

    Raises UserError where the folder is not empty, or no architecture computes the model.
    """
    if model.step not in MODELS:
        raise UserError(f"{model.digest[:12]}: is an artifact of {model.step}, not a model")
    from models.huggingface import export_folder

    target = Storage(destination)
    present = patiently(lambda: target.names(""))
    if present and not force:
        raise UserError(f"{destination}: holds {present[0]} already; --force writes over it")
    with tempfile.TemporaryDirectory(prefix="millrace-export-") as folder:
        loader = export_folder(model.local(), Path(folder), check=check)
        files = sorted(path.name for path in Path(folder).iterdir())
        for name in files:
            patiently(lambda name=name: target.upload(Path(folder) / name, name))  # type: ignore[misc]
    return loader, files
