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

from flows.classifier_recipe import AnyRecipe, ClassifierRecipe
from flows.estimates import require_possible
from flows.recipe import Recipe
from flows.summary import STEPS, in_order, sections
from flows.train_classifier import classifier_steps
from flows.train_from_scratch import all_steps
from infra.artifacts import Artifact, ArtifactStore
from infra.errors import needs_mending, reason, told_to_stop
from infra.execution import Options, Progress, StepRecord, StepRunner
from infra.planning import Planner
from infra.processes import Workers
from infra.retries import patiently, transient
from infra.settings import settings
from infra.steps import executing

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Somebody who watches a run."""

    def started(self, step: str) -> None:
        """A step has begun."""

    def progress(self, progress: Progress) -> None:
        """A step has come further."""

    def finished(self, record: StepRecord) -> None:
        """A step has ended, well or not."""

    def ended(self, summary: dict[str, Any]) -> None:
        """The run has ended, well or not."""


class LogObserver:
    """Writes one log line a step; the observer of runs that nobody watches at a terminal."""

    def started(self, step: str) -> None:
        """Say nothing."""

    def progress(self, progress: Progress) -> None:
        """Say nothing."""

    def finished(self, record: StepRecord) -> None:
        """Log what became of the step."""
        log.info("%s: %s in %.1f s (%s)", record.step, record.state, record.seconds, record.why)

    def ended(self, summary: dict[str, Any]) -> None:
        """Log where the report is."""
        log.info("run %s: %s; report: %s", summary["run_id"], summary["status"], summary["report"])


observer: ContextVar[Observer] = ContextVar("millrace_observer", default=LogObserver())  # noqa: B039 (stateless)
resume_command: ContextVar[str] = ContextVar("millrace_resume_command", default="")


@dataclass
class Run:
    """A run under way, and afterwards its record."""

    id: str
    recipe: AnyRecipe
    store: ArtifactStore
    runner: StepRunner
    resume_command: str
    planned: list[str]
    status: Literal["running", "completed", "failed"] = "running"
    error: str | None = None
    stopped: bool = False
    """Whether a run that is "failed" was told to stop."""
    to_mend: bool = False
    """Whether it would fail again if nothing was changed."""
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
        return {
            "run_id": self.id,
            "recipe": self.recipe.name,
            "status": self.status,
            "error": self.error,
            "seconds": round(self.seconds, 3),
            "resume_command": self.resume_command,
            **sections(self.runner.records, self.artifacts()),
            "report": self.report,
        }


_active: ContextVar[Run | None] = ContextVar("millrace_run", default=None)


def _walk(recipe: AnyRecipe) -> None:
    """Call the steps of a recipe."""
    if isinstance(recipe, ClassifierRecipe):
        classifier_steps(recipe)
    else:
        all_steps(recipe)


def make_plan(recipe: AnyRecipe, store: ArtifactStore, options: Options | None = None) -> Planner:
    """Walk the recipe's steps without running any; its `options` carry the order of the steps.

    Raises UserError for an unknown step or a missing input.
    """

    def walk(chosen: Options) -> Planner:
        planner = Planner(store, chosen)
        with executing(planner):
            _walk(recipe)
        return planner

    planner = patiently(lambda: walk(Options()))
    ordered = (options or Options()).within(in_order({record.step for record in planner.records}))
    return patiently(lambda: walk(ordered))


def checked_plan(recipe: AnyRecipe, store: ArtifactStore, options: Options | None = None) -> Planner:
    """Plan a run that is about to start; raises UserError too where this machine could never train what it ends in."""
    planner = make_plan(recipe, store, options)
    trains = any(record.step == "pretrain" and record.state == "pending" for record in planner.records)
    if isinstance(recipe, Recipe) and trains and not planner.options.after_until("pretrain"):
        require_possible(recipe)
    return planner


def look_up(recipe: AnyRecipe, store: ArtifactStore, until: str) -> Planner:
    """Look up the steps of a recipe as far as `until`, in one walk; those that are not published are pending."""

    def walk() -> Planner:
        planner = Planner(store, Options(until=until, order=STEPS))
        with executing(planner):
            _walk(recipe)
        return planner

    return patiently(walk)


@contextmanager
def run(recipe: AnyRecipe, options: Options | None = None) -> Iterator[Run]:
    """Make the steps called inside run for real, as Prefect tasks of the current flow run.

    A flow that is called by another joins its run. However the run ends, its summary and report are written.
    """
    if (outer := _active.get()) is not None:
        yield outer
        return
    store = ArtifactStore(settings().storage)
    patiently(store.storage.check)
    options = checked_plan(recipe, store, options).options
    planned = list(options.order)
    from infra.orchestration import PrefectRunner

    watcher = observer.get()
    with Workers(settings().workers) as workers:
        runner = PrefectRunner(store, settings(), workers, options, watcher.progress)
        runner.started, runner.finished = watcher.started, watcher.finished
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{recipe.name}-{secrets.token_hex(2)}"
        this = Run(run_id, recipe, store, runner, resume_command.get() or _deployment(), planned)
        token = _active.set(this)
        try:
            with executing(runner):
                yield this
            this.status = "completed"
        except BaseException as exc:
            this.status, this.error = "failed", reason(exc)
            this.stopped, this.to_mend = told_to_stop(exc), needs_mending(exc)
            raise
        finally:
            _active.reset(token)
            this.seconds = time.monotonic() - this.began
            _leave(this)
            watcher.ended(this.summary())


def _deployment() -> str:
    """Return the command that starts this deployment again, where the run is one of a deployment."""
    from prefect.runtime import deployment, flow_run

    return f"prefect deployment run '{flow_run.flow_name}/{deployment.name}'" if deployment.name else ""


def _leave(this: Run) -> None:
    """Write what the run leaves behind, the summary first; nothing of it undoes what the run has published."""
    storage, folder = this.store.storage, f"runs/{this.id}"

    def summarise() -> None:
        summary = json.dumps(this.summary(), indent=1).encode()
        patiently(lambda: storage.write_bytes(f"{folder}/summary.json", summary))

    def name() -> None:
        if this.status == "completed" and (made := {step: found[-1] for step, found in this.artifacts().items()}):
            patiently(lambda: this.store.tag(this.recipe.name, this.id, made))

    def keep_recipe() -> None:
        patiently(lambda: storage.write_bytes(f"{folder}/recipe.yaml", this.recipe.to_yaml().encode()))

    for what, part in (
        ("summary", summarise),
        ("recipe", keep_recipe),
        ("names of its artifacts", name),
        ("report", lambda: _report(this)),
        ("summary", summarise),
        ("tables in Prefect", lambda: _tables(this)),
    ):
        try:
            part()
        except Exception as exc:
            log.warning("the run's %s could not be written: %s: %s", what, type(exc).__name__, _one_line(exc))
            log.debug("writing the %s", what, exc_info=True)
            if transient(exc):  # storage does not answer: the rest would only wait for it as well
                return


def _one_line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:300]


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
            stopped=this.stopped,
            to_mend=this.to_mend,
            resume_command=this.resume_command,
        )
        html = render_report(run)
        this.store.storage.write_bytes(path, html.encode())
        return this.store.storage.uri(path)

    make_task("report", body, settings())(return_state=True).result(raise_on_failure=True)
    this.report = this.store.storage.uri(path)


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
