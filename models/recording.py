"""The rows of the curve: when one is due, what is measured for it, and to whom it is told."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from models.checkpointing import State
from models.engine import Engine
from models.job import Job
from models.telemetry import SAMPLES, Logs, Meter
from models.telemetry.samples import Sampler
from models.validation import Validation


class Recorder:
    """Begins the row of a step and completes it, with a validation and samples where these are due.

    What is measured takes long, and may be put off: the row that lacks it is part of the state (`State.row`), so that a
    later life of the run measures what an earlier one was told to stop in.  `logs` is None but on rank 0.
    """

    def __init__(
        self,
        job: Job,
        engine: Engine,
        *,
        validation: Validation,
        sampler: Sampler | None,
        logs: Logs | None,
        meter: Meter,
    ) -> None:
        self._training, self._engine = job.training, engine
        self._validation, self._sampler, self._logs, self._meter = validation, sampler, logs, meter

    def begin(self, state: State, *, loss: float, norm: float | None, skipped: bool, learning_rate: float) -> None:
        """Begin the row of the step that was just taken, if one is due."""
        step = state.step
        due = self._validates(step) or self._samples(step) or step % self._training.curve_every == 0
        if not (due or skipped or state.event):
            return
        row: dict[str, Any] = {
            "step": step,
            "tokens": state.tokens,
            "loss": loss if norm is not None else None,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
        }
        if skipped:
            row["skipped"] = 1
        state.row = row | state.event
        state.event = {}

    def complete(self, state: State, progress: Callable[[], None]) -> None:
        """Measure what the row that was begun still lacks, if there is one, and write it; every rank must call it.

        `progress` is called by all ranks alike between their batches and tokens, and may raise to put off the rest.
        """
        if (row := state.row) is None:
            return
        step = row["step"]
        validate = self._validates(step) and "validation_loss" not in row
        sample = self._samples(step)
        average = state.average if validate or sample else None
        with average.in_place() if average is not None else nullcontext():
            if validate:
                prefix = None if step == self._training.steps else self._training.validation_tokens
                row["validation_loss"], row["validation_bits_per_byte"] = self._validation.losses(
                    self._engine, tokens=prefix, progress=progress
                )
            if sample and self._sampler is not None:
                row[SAMPLES] = self._sampler.sample(self._engine, step, progress)
        state.row = None
        state.curve.add(**row)
        self._tell(row)

    def _tell(self, row: Mapping[str, Any]) -> None:
        if self._logs is not None:
            self._logs.row(row)
            self._logs.throughput(row["step"], self._meter)

    def _validates(self, step: int) -> bool:
        every = self._training.validate_every
        return step == self._training.steps or (every > 0 and step % every == 0)

    def _samples(self, step: int) -> bool:
        if self._sampler is None:
            return False
        return step == self._training.steps or step % self._training.sample_every == 0
