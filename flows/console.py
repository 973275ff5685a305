"""What a person at a terminal sees of a run: one line a step, and progress bars while something long goes on.

Everything goes to stderr; stdout belongs to `--json` and to what a command was asked for.
"""

import logging
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from infra.execution import Progress as StepProgress
from infra.execution import StepRecord
from infra.progress import measured

LINE_SECONDS = 30.0
"""Least time between two lines about a step that goes on, where nothing can be drawn."""
_STYLE = {"ran": "green", "cached": "cyan", "failed": "red", "stopped": "yellow", "pending": "dim"}


class ConsoleObserver:
    """Prints what becomes of each step; draws progress bars where stderr is a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._said = time.monotonic()
        self.built: set[str] = set()
        self.summary: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
            )
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def started(self, step: str) -> None:
        """Open the bar of a step."""
        if self._bars is not None:
            self._tasks[step] = self._bars.add_task(step, total=None, unit="")

    def progress(self, progress: StepProgress) -> None:
        """Move the bar of a step; without bars, print now and then how far a step is that measures something."""
        said = measured(progress)
        if self._bars is None:
            if said and progress.total is not None and time.monotonic() - self._said >= LINE_SECONDS:
                self._said = time.monotonic()
                self.console.print(
                    f"{progress.step:<13}  {progress.done:,} of {progress.total:,} {progress.unit}, {said}"
                )
        elif progress.step in self._tasks:
            self._bars.update(
                self._tasks[progress.step],
                completed=progress.done,
                total=progress.total,
                unit=f"{progress.unit}  {said}" if said else progress.unit,
            )

    def finished(self, record: StepRecord) -> None:
        """Print the line of a step."""
        if self._bars is not None and record.step in self._tasks:
            self._bars.remove_task(self._tasks.pop(record.step))
        if record.state == "pending":
            return
        if record.state == "ran":
            self.built.add(record.step)
        state = "stopped" if record.stopped else record.state
        parts = [f"{record.step:<13}", f"[{_STYLE[state]}]{state:<7}[/]", f"{record.seconds:7.1f} s"]
        if record.artifact is not None:
            counters = record.artifact.counters
            parts.append(record.artifact.digest[:12])
            if counters.documents_in:
                parts.append(f"{counters.documents_in:,} -> {counters.documents_out:,} documents")
        if record.label:
            parts.append(record.label)
        if record.shards > 1:
            parts.append(f"{record.shards} shards, {record.shards_cached} of them cached")
        if record.state == "ran" and record.why:
            parts.append(f"[dim]({record.why[:120].replace('[', '(').replace(']', ')')})[/]")
        self.console.print("  ".join(parts))

    def ended(self, summary: dict[str, Any]) -> None:
        """Keep the summary for whoever asked for it."""
        self.summary = summary


def configure_logging(verbose: bool) -> None:
    """Send our own log lines to stderr; those of the libraries only with `--verbose`."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    for floor in ("flows", "tasks", "models", "infra"):
        logging.getLogger(floor).setLevel(logging.DEBUG if verbose else logging.INFO)
