"""One run of the flows: its id, its record of steps, and the summary and report that it leaves behind.

{root}/runs/{run_id}/summary.json, report.html, recipe.yaml
"""

import json
import logging
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from flows.recipe import Recipe
from flows.train_from_scratch import all_steps
from infra.artifacts import Artifact, ArtifactStore
from infra.execution import Options, Progress, StepRecord, StepRunner
from infra.planning import Planner
from infra.processes import Workers
from infra.settings import settings
from infra.steps import executing

log = logging.getLogger(__name__)

_FUNNEL = ("crawl", "ingest", "extract", "annotate", "select", "dedup", "split")


class Observer(Protocol):
    """Somebody who watches a run."""

    def started(self, step: str) -> None:
        """A step has begun."""

    def progress(self, progress: Progress) -> None:
        """A step has come further."""

    def finished(self, record: StepRecord) -> None:
        """A step has ended, well or not."""


class LogObserver:
    """Writes one log line a step; the observer of runs that nobody watches at a terminal."""

    def started(self, step: str) -> None:
        """Say nothing."""

    def progress(self, progress: Progress) -> None:
        """Say nothing."""

    def finished(self, record: StepRecord) -> None:
        """Log what became of the step."""
        log.info("%s: %s in %.1f s (%s)", record.step, record.state, record.seconds, record.why)


observer: ContextVar[Observer] = ContextVar("millrace_observer", default=LogObserver())  # noqa: B039 (stateless)
resume_command: ContextVar[str] = ContextVar("millrace_resume_command", default="")


@dataclass
class Run:
    """A run under way, and afterwards its record."""

    id: str
    recipe: Recipe
    store: ArtifactStore
    runner: StepRunner
    resume_command: str
    planned: list[str]
    status: Literal["running", "completed", "failed"] = "running"
    error: str | None = None
    seconds: float = 0.0
    report: str | None = None
    began: float = field(default_factory=time.monotonic)

    def artifacts(self) -> dict[str, list[Artifact]]:
        """Return the artifacts of the steps that have one, by step, in order."""
        found: dict[str, list[Artifact]] = {}
        for record in self.runner.records:
            if record.artifact is not None:
                found.setdefault(record.step, []).append(record.artifact)
        return found

    def summary(self) -> dict[str, Any]:
        """Return what `summary.json` says (DESIGN: the summary format)."""
        artifacts = self.artifacts()
        return {
            "run_id": self.id,
            "recipe": self.recipe.name,
            "status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "resume_command": self.resume_command,
            "steps": [_step(record) for record in self.runner.records if record.state != "pending"],
            "funnel": [_funnel(step, artifacts[step]) for step in _FUNNEL if step in artifacts],
            "corpus": _corpus(artifacts),
            "model": _model(artifacts),
            "evaluation": _evaluation(artifacts),
            "report": self.report,
        }


def _step(record: StepRecord) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "step": record.step,
        "state": record.state,
        "digest": record.artifact.digest if record.artifact else None,
        "uri": record.artifact.uri if record.artifact else None,
        "seconds": round(record.seconds, 3),
        "why": record.why,
    }
    if record.shards:
        entry |= {"shards": record.shards, "shards_cached": record.shards_cached}
    return entry


def _funnel(step: str, artifacts: list[Artifact]) -> dict[str, Any]:
    from infra.manifests import Counters

    total = Counters.total(a.counters for a in artifacts)
    return {
        "stage": step,
        "documents_in": total.documents_in,
        "documents_out": total.documents_out,
        "dropped": dict(sorted(total.dropped.items())),
        "quarantined": total.quarantined,
    }


def _corpus(artifacts: dict[str, list[Artifact]]) -> dict[str, int] | None:
    if "tokens" not in artifacts:
        return None
    index = json.loads(artifacts["tokens"][-1].file("index.json").read_bytes())
    train, validation = index["splits"]["train"], index["splits"]["validation"]
    return {
        "documents": train["documents"] + validation["documents"],
        "bytes": train["bytes"] + validation["bytes"],
        "tokens": train["tokens"] + validation["tokens"],
        "train_tokens": train["tokens"],
        "validation_tokens": validation["tokens"],
    }


def _model(artifacts: dict[str, list[Artifact]]) -> dict[str, Any] | None:
    if "pretrain" not in artifacts:
        return None
    artifact = artifacts["pretrain"][-1]
    training = json.loads(artifact.file("training.json").read_bytes())
    names = ("parameters", "steps", "tokens", "validation_loss", "validation_bits_per_byte")
    return {
        "uri": artifact.uri,
        **{name: training.get(name) for name in names},
        "tokens_per_second": artifact.metrics.get("tokens_per_second"),
    }


def _evaluation(artifacts: dict[str, list[Artifact]]) -> dict[str, Any] | None:
    if "evaluate" not in artifacts:
        return None
    evaluation: dict[str, Any] = json.loads(artifacts["evaluate"][-1].file("evaluation.json").read_bytes())
    return evaluation


_active: ContextVar[Run | None] = ContextVar("millrace_run", default=None)


def make_plan(recipe: Recipe, store: ArtifactStore, options: Options | None = None) -> Planner:
    """Walk the recipe's steps without running any; raises UserError for an unknown step or a missing input."""
    planner = Planner(store)
    with executing(planner):
        all_steps(recipe)
    names = list(dict.fromkeys(record.step for record in planner.records))
    if options is None or options == Options():
        return planner
    options.check(names)
    planner = Planner(store, options)
    with executing(planner):
        all_steps(recipe)
    return planner


@contextmanager
def run(recipe: Recipe, options: Options | None = None) -> Iterator[Run]:
    """Make the steps called inside run for real, as Prefect tasks of the current flow run.

    A flow that is called by another joins its run. However the run ends, its summary and report are written.
    """
    if (outer := _active.get()) is not None:
        yield outer
        return
    store = ArtifactStore(settings().storage)
    store.storage.check()
    options = options or Options()
    planned = list(dict.fromkeys(r.step for r in make_plan(recipe, store, options).records))
    from infra.orchestration import PrefectRunner

    watcher = observer.get()
    with Workers(settings().workers) as workers:
        runner = PrefectRunner(store, settings(), workers, options, watcher.progress)
        runner.started, runner.finished = watcher.started, watcher.finished
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{recipe.name}-{secrets.token_hex(2)}"
        this = Run(run_id, recipe, store, runner, resume_command.get(), planned)
        token = _active.set(this)
        try:
            with executing(runner):
                yield this
            this.status = "completed"
        except BaseException as exc:
            this.status, this.error = "failed", " ".join(str(exc).split()) or type(exc).__name__
            raise
        finally:
            _active.reset(token)
            this.seconds = time.monotonic() - this.began
            _leave(this)


def _leave(this: Run) -> None:
    """Write what the run leaves behind; a report that cannot be drawn does not undo the run."""
    storage = this.store.storage
    folder = f"runs/{this.id}"
    try:
        storage.write_bytes(f"{folder}/recipe.yaml", this.recipe.to_yaml().encode())
        if this.status == "completed" and "evaluate" in this.artifacts():
            this.store.tag(this.recipe.name, this.id, {name: found[-1] for name, found in this.artifacts().items()})
        _report(this)
        storage.write_bytes(f"{folder}/summary.json", json.dumps(this.summary(), indent=1).encode())
        _tables(this)
    except Exception:
        if this.status == "completed":
            raise
        log.warning("the run's summary could not be written to %s", storage.uri(folder), exc_info=True)


def _report(this: Run) -> None:
    from infra.orchestration import make_task
    from tasks.report import collect, render_report

    path = f"runs/{this.id}/report.html"

    def body() -> str:
        summary = this.summary()
        run = collect(
            this.artifacts(),
            run_id=this.id,
            recipe_name=this.recipe.name,
            recipe=this.recipe.to_yaml(),
            status=this.status,
            steps=summary["steps"],
            planned=this.planned,
            seconds=this.seconds,
            error=this.error,
            resume_command=this.resume_command,
        )
        html = render_report(run)
        this.store.storage.write_bytes(path, html.encode())
        return this.store.storage.uri(path)

    this.report = this.store.storage.uri(path)
    make_task("report", body, settings())(return_state=True).result(raise_on_failure=True)


def _tables(this: Run) -> None:
    """Show the steps, the funnel and the evaluation as artifacts of the flow run in Prefect's UI."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    summary = this.summary()
    steps = [{k: s[k] for k in ("step", "state", "seconds", "why", "uri")} for s in summary["steps"]]
    create_table_artifact(steps, key="steps", description="What became of each step")
    if summary["funnel"]:
        rows = [{**row, "dropped": json.dumps(row["dropped"])} for row in summary["funnel"]]
        create_table_artifact(rows, key="funnel", description="Documents in and out of each stage")
    if summary["evaluation"]:
        create_markdown_artifact(
            f"```json\n{json.dumps(summary['evaluation'], indent=1)}\n```", key="evaluation", description="Evaluation"
        )
    if this.report and "://" in this.report:
        create_link_artifact(this.report, key="report", link_text="report.html")
