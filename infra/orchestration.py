"""Steps as Prefect task runs: retries with back-off and jitter, a "Cached" state, groups of shards, progress.

Prefect's own result cache is off (NO_CACHE, nothing persisted): the manifests are the only truth. Tasks are closures
without parameters, so that no data and no large manifest passes through Prefect.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from prefect.tasks import exponential_backoff

from infra import preemption
from infra.artifacts import Artifact, ArtifactStore
from infra.errors import MillraceError, PreemptedError
from infra.execution import Builder, Inputs, Listener, Options, Progress, StepRecord, StepRunner
from infra.manifests import File
from infra.planning import Planner
from infra.processes import Workers
from infra.progress import PrefectProgress
from infra.retries import transient
from infra.settings import Settings
from infra.steps import Step

log = logging.getLogger(__name__)


class _StoppedError(MillraceError):
    """A group of shards that was not begun because another one had failed."""


def make_task(name: str, body: Callable[[], Any], settings: Settings) -> Task[[], Any]:
    """Make the Prefect task of one piece of work: retried on transient errors only, never cached by Prefect."""

    def retry(task: Any, run: Any, state: State[Any]) -> bool:
        error = state.data if isinstance(state.data, BaseException) else _error(state)
        again = error is not None and transient(error) and not isinstance(error, PreemptedError)  # see `body`
        if again:
            log.warning("%s: %s; trying again", name, " ".join(str(error).split())[:300])
        return again

    return Task(
        fn=body,
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=settings.retries,
        retry_delay_seconds=exponential_backoff(settings.retry_seconds),
        retry_jitter_factor=0.5,
        retry_condition_fn=retry,
    )


def _error(state: State[Any]) -> BaseException | None:
    result = state.result(raise_on_failure=False)
    return result if isinstance(result, BaseException) else None


class PrefectRunner(StepRunner):
    """Runs the steps of one flow run: a Prefect task run a step, and one a group of shards."""

    def __init__(
        self,
        store: ArtifactStore,
        settings: Settings,
        workers: Workers,
        options: Options | None = None,
        listener: Listener = lambda progress: None,
    ) -> None:
        super().__init__(store, options)
        self.settings = settings
        self.workers = workers
        self.listener = listener

    def build(self, step: Step[Any, ...], cfg: Any, inputs: Inputs, record: StepRecord) -> Artifact:
        """Run the step's task; a transient error is retried in it, everything else ends the flow."""
        shown = PrefectProgress(step.name)

        def listen(progress: Progress) -> None:
            self.listener(progress)
            shown.update(progress)

        builder = Builder(self.store, self.workers, listen)

        def body() -> State[Any]:
            if (found := self.reusable(step, cfg, inputs)) is not None:
                record.state, record.why = "cached", "published before"
                return Completed(name="Cached", message=found.uri, data=found)
            record.why = self._why(step, cfg, inputs)
            try:
                if step.shards:
                    artifact, built = self._sharded(builder, step, cfg, inputs, record)
                else:
                    artifact, built = self._whole(builder, step, cfg, inputs)
            except PreemptedError as exc:  # this process must go: whoever starts the run again finds what was saved
                record.state = "failed"
                return Failed(name="Preempted", message=str(exc), data=exc)
            record.state = "ran" if built else "cached"
            return Completed(name="Completed" if built else "Cached", message=artifact.uri, data=artifact)

        try:
            state = make_task(step.name, body, self.settings)(return_state=True)
        finally:
            shown.close()
        made: Artifact = state.result(raise_on_failure=True)
        return made

    @staticmethod
    def _whole(builder: Builder, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> tuple[Artifact, bool]:
        """Build the artifact; where only the work was told to stop, not this process, it is queued again at once."""
        while True:
            try:
                artifact, built = builder.whole(step, cfg, inputs)
            except PreemptedError as exc:
                if preemption.told():
                    raise
                log.warning("%s: %s; starting it again", step.name, exc)
                continue
            if built and step.preemptible and preemption.told():  # it was as good as done when the signal came
                raise PreemptedError(f"{step.name}: done, and told to stop; the same run goes on after it")
            return artifact, built

    def _why(self, step: Step[Any, ...], cfg: Any, inputs: Inputs) -> str:
        if step.name in self.options.force:
            return "--force"
        return Planner(self.store).explain(step.identity(cfg, inputs))

    def _sharded(
        self, builder: Builder, step: Step[Any, ...], cfg: Any, inputs: Inputs, record: StepRecord
    ) -> tuple[Artifact, bool]:
        began = time.monotonic()
        parts = step.split(inputs)
        size = max(1, math.ceil(len(parts) / self.settings.group_tasks))
        groups = [parts[i : i + size] for i in range(0, len(parts), size)]
        done, stop = [0], threading.Event()
        record.shards, record.shards_cached = len(parts), 0

        def group(index: int, members: list[dict[str, Artifact | File]]) -> Callable[[], State[Any]]:
            def body() -> State[Any]:
                results = []
                for part in members:
                    if stop.is_set():
                        raise _StoppedError(f"{step.name}: another group of shards has failed")
                    try:
                        artifact, built = builder.shard(step, cfg, part)
                    except Exception as exc:
                        if not transient(exc):
                            stop.set()  # groups that wait would only put off the answer
                        raise
                    results.append((artifact, built))
                    done[0] += 1
                    builder.listener(Progress(step.name, done[0], len(parts), "shards"))
                name = "Completed" if any(built for _, built in results) else "Cached"
                return Completed(name=name, data=results)

            return body

        futures = [
            make_task(f"{step.name} {i + 1}/{len(groups)}", group(i, members), self.settings).submit()
            for i, members in enumerate(groups)
        ]
        results: list[tuple[Artifact, bool]] = []
        failed: list[BaseException] = []
        for future in futures:
            try:
                results += future.result()
            except _StoppedError:
                continue
            except Exception as exc:
                failed.append(exc)
        if failed:
            failed.sort(key=transient)  # what no retry could mend says more than what it may have caused
            for other in failed[1:]:
                log.error("%s: %s", step.name, " ".join(str(other).split())[:300])
            first = failed[0]
            if transient(first):  # its own task has retried it already
                raise MillraceError(f"{step.name}: gave up after {self.settings.retries} retries: {first}") from first
            raise first
        record.shards_cached = sum(not built for _, built in results)
        shards = [artifact for artifact, _ in results]
        artifact = builder.join(step, cfg, inputs, shards, time.monotonic() - began)
        return artifact, any(built for _, built in results)
