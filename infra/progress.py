"""How far a step is, shown in Prefect while it runs: a progress artifact, and a table of what it measures.

Prefect is asked from a thread that only knows the newest state: an API that is slow or away holds nothing up.
"""

import contextvars
import datetime
import logging
import threading
import time

from infra.execution import Progress

log = logging.getLogger(__name__)

SECONDS = 5.0
"""Least time between two updates of the progress artifact."""
TABLE_SECONDS = 30.0
"""Least time between two versions of the table: Prefect keeps all of them."""
_CLOSE_SECONDS = 2.0


class PrefectProgress:
    """The artifacts of one step of the flow run that this is made in."""

    def __init__(self, step: str) -> None:
        self._key = "".join(c if c.isalnum() else "-" for c in step.lower())
        self._newest: Progress | None = None
        self._changed, self._stopped = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._artifact_id: object = None
        self._tabled = 0.0

    def update(self, progress: Progress) -> None:
        """Show this instead of what was shown, soon; returns at once."""
        if progress.total is None:
            return
        self._newest = progress
        self._changed.set()
        if self._thread is None:
            context = contextvars.copy_context()  # names the flow run and the task run
            self._thread = threading.Thread(
                target=context.run, args=(self._work,), name=f"progress of {progress.step}", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Show no more but, of what measures something, the last state, unless Prefect takes too long."""
        self._stopped.set()
        self._changed.set()
        if self._thread is not None and self._newest is not None and self._newest.latest:
            self._thread.join(_CLOSE_SECONDS)

    def _work(self) -> None:
        while True:
            self._changed.wait()
            self._changed.clear()
            last = self._stopped.is_set()
            progress = self._newest
            assert progress is not None
            if last and not progress.latest:
                return
            try:
                self._show(progress, last=last)
            except Exception as exc:  # a display must not end the work that it shows
                log.debug("progress of %s was not shown in Prefect: %s", progress.step, exc)
            if last:
                return
            self._stopped.wait(SECONDS)

    def _show(self, progress: Progress, *, last: bool) -> None:
        from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact

        percent = 100.0 * progress.done / max(progress.total or 1, 1)
        text = f"{progress.done:,} of {progress.total:,} {progress.unit}"
        if said := measured(progress):
            text += f", {said}"
        if self._artifact_id is None:
            self._artifact_id = create_progress_artifact(percent, key=f"{self._key}-progress", description=text)
        else:
            update_progress_artifact(self._artifact_id, percent, description=text)  # type: ignore[arg-type]
        if progress.latest and (last or time.monotonic() - self._tabled >= TABLE_SECONDS):
            self._tabled = time.monotonic()
            create_markdown_artifact(table(progress), key=f"{self._key}-latest", description=text)


def measured(progress: Progress) -> str:
    """Return what a person wants to see first of what a step measures: loss, speed and time left, where it has them."""
    latest, parts = progress.latest, []
    if (loss := latest.get("loss")) is not None:
        parts.append(f"loss {loss:.4g}")
    if (rate := latest.get("tokens_per_second")) is not None:
        parts.append(f"{rate:,.0f} tokens/s")
    if (left := latest.get("seconds_left")) is not None:
        parts.append(f"{datetime.timedelta(seconds=round(left))} left")
    return ", ".join(parts)


def table(progress: Progress) -> str:
    """Return what a step has measured last, as a table in Markdown."""
    rows = [f"| {name.replace('_', ' ')} | {value:.6g} |" for name, value in progress.latest.items()]
    return "\n".join([f"### {progress.step}: {progress.done:,} of {progress.total:,} {progress.unit}", "",
                      "| | latest |", "|---|---:|", *rows])  # fmt: skip
