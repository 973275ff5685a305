"""Where a run can be watched: TensorBoard, MLflow, Weights & Biases.

A run that goes on after an interruption goes on in the same run of MLflow and W&B, whose id comes from the digest of
the configuration, and adds no step twice.  Servers are talked to from a thread: neither a slow nor a dead one holds
training up, it only loses points.
"""

import importlib.util
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from infra.errors import UserError

log = logging.getLogger(__name__)

TrackerName = Literal["tensorboard", "mlflow", "wandb"]
Outcome = Literal["finished", "failed", "preempted"]
"""How a life of a run ended: failed is tried again or not, preempted goes on elsewhere."""
_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
_WAITING = 10_000
_CLOSE_SECONDS = 60.0


class Tracker(Protocol):
    """One place where a run can be watched."""

    last_step: int
    """The last step that it has; earlier ones are not written again."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each series."""

    def text(self, step: int, name: str, text: str) -> None:
        """Add a text."""

    def close(self, outcome: Outcome) -> None:
        """Write out what is buffered, and say how the run ended where there is a place for it."""


def require_trackers(names: Sequence[str]) -> None:
    """Raise UserError that names a package which is missing, and how it is installed."""
    for name in names:
        if importlib.util.find_spec(_PACKAGES[name]) is None:
            raise UserError(
                f"execution.telemetry: {name} is not installed; run `pip install 'millrace[{name}]'`, or take it out"
            )


def make_tracker(name: str, folder: Path, *, run: str, step: int, parameters: Mapping[str, Any]) -> Tracker:
    """Return a tracker of the run that `run` identifies, which goes on after noting so many steps.

    Raises UserError where it cannot be set up.
    """
    require_trackers([name])
    try:
        if name == "tensorboard":
            return TensorBoard(folder, step=step)
        if name == "mlflow":
            return Background("MLflow", MLflow(run, resumed=step > 0, parameters=parameters))
        return Background("Weights & Biases", WeightsAndBiases(run, folder, parameters=parameters))
    except Exception as error:
        raise UserError(f"execution.telemetry: {name} could not be set up: {' '.join(str(error).split())}") from error


class TensorBoard:
    """Event files below a folder.

    What an earlier life of the run has left there stays, up to the step that this one goes on after.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        again = any(folder.glob("events.out.tfevents.*"))
        self.last_step = step if again else 0
        purge = step + 1 if again else None  # else what was taken once more would be shown twice
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each series."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, step: int, name: str, text: str) -> None:
        """Add a text, shown as it is."""
        self._writer.add_text(name, "    " + text.replace("\n", "\n    "), step)

    def close(self, outcome: Outcome) -> None:
        """Write out what is buffered; event files have no place for how a run ended."""
        self._writer.close()


class MLflow:
    """A run on the server that MLFLOW_TRACKING_URI names, in MLFLOW_EXPERIMENT_NAME or `millrace`."""

    _TAG = "millrace.run"

    def __init__(self, run: str, *, resumed: bool, parameters: Mapping[str, Any]) -> None:
        import os

        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "millrace")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found is not None else self._client.create_experiment(name)
        earlier = self._client.search_runs(
            [experiment], f"tags.`{self._TAG}` = '{run}'", max_results=1, order_by=["attributes.start_time DESC"]
        )
        self.last_step = 0
        if earlier and resumed:
            self._run = earlier[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            history = self._client.get_metric_history(self._run, "tokens")  # the one that every row has
            self.last_step = max((point.step for point in history), default=0)
            return
        self._run = self._client.create_run(
            experiment, tags={self._TAG: run}, run_name=f"pretrain-{run[:8]}"
        ).info.run_id
        for key, value in parameters.items():
            self._client.log_param(self._run, key, value)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each series."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._run, metrics=[Metric(k, float(v), now, step) for k, v in values.items()])

    def text(self, step: int, name: str, text: str) -> None:
        """Add a text as a file of the run."""
        self._client.log_text(self._run, text, f"{name}/{step:08d}.txt")

    def close(self, outcome: Outcome) -> None:
        """Say how the run has ended."""
        status = {"finished": "FINISHED", "failed": "FAILED", "preempted": "KILLED"}[outcome]
        self._client.set_terminated(self._run, status=status)


class WeightsAndBiases:
    """A run in the project that WANDB_PROJECT names, or `millrace`; WANDB_MODE=offline keeps it below the folder."""

    def __init__(self, run: str, folder: Path, *, parameters: Mapping[str, Any]) -> None:
        import os

        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "millrace"),
            id=run[:16],
            name=f"pretrain-{run[:8]}",
            resume="allow",
            dir=str(folder),
            config=dict(parameters),
        )
        self.last_step = max(int(self._run.step) - 1, 0)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each series."""
        self._run.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        """Add a text."""
        self._run.log({name: self._wandb.Html(f"<pre>{_escaped(text)}</pre>")}, step=step)

    def close(self, outcome: Outcome) -> None:
        """Send what is left, and say how the run has ended."""
        if outcome == "preempted":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if outcome == "finished" else 1)


def _escaped(text: str) -> str:
    import html

    return html.escape(text)


class Background:
    """A tracker that is talked to from a thread of its own; what it fails at is said once and left out."""

    def __init__(self, title: str, tracker: Tracker) -> None:
        self._title, self._tracker = title, tracker
        self.last_step = tracker.last_step
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_WAITING)
        self._failed = 0
        self._thread = threading.Thread(target=self._work, name=f"telemetry {title}", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                job()
            except Exception as error:  # what is only watched must not end the training
                self._failed += 1
                if self._failed == 1:
                    log.warning(
                        "%s: %s; training goes on without these points", self._title, " ".join(str(error).split())
                    )

    def _put(self, job: Callable[[], None]) -> None:
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            self._failed += 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each series, soon."""
        kept = dict(values)
        self._put(lambda: self._tracker.scalars(step, kept))

    def text(self, step: int, name: str, text: str) -> None:
        """Add a text, soon."""
        self._put(lambda: self._tracker.text(step, name, text))

    def close(self, outcome: Outcome) -> None:
        """Write out what waits and say how the run ended, for at most a minute."""
        end = time.monotonic() + _CLOSE_SECONDS
        try:
            for job in (lambda: self._tracker.close(outcome), None):
                self._queue.put(job, timeout=max(0.0, end - time.monotonic()))
        except queue.Full:
            log.warning("%s: no answer; it is not told that the run has %s", self._title, outcome)
            return
        self._thread.join(max(0.0, end - time.monotonic()))
        if self._failed:
            log.warning("%s: %d messages were lost", self._title, self._failed)
