"""What rank 0 says about a run while it goes on: to files, to trackers, to whoever started it."""

import json
import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from models.job import Job
from models.telemetry.curve import SAMPLES
from models.telemetry.flops import step_flops, utilisation
from models.telemetry.meter import Meter, memory
from models.telemetry.trackers import Outcome, Tracker, make_tracker


class Logs:
    """Scalars of every row of the curve, and throughput.jsonl, below a folder; not part of what the model is."""

    def __init__(self, job: Job, *, precision: str) -> None:
        import torch

        self._folder = job.output / "logs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._job, self._precision = job, precision
        self._device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
        self._token_flops = step_flops(job.training, job.vocab_size) / (job.training.batch * job.training.window)
        self._throughput = (self._folder / "throughput.jsonl").open("a", encoding="utf-8")
        self._trackers: list[Tracker] = []
        self.latest: dict[str, float] = {}
        """The last value of what a person wants to see while it runs."""

    def open(self, rows: Iterable[Mapping[str, Any]], *, step: int) -> None:
        """Open the trackers, for a run that goes on after noting so many steps.

        Of `rows`, which an earlier life has noted, those that a tracker does not have are written again.
        """
        parameters = {
            "steps": self._job.training.steps,
            "batch": self._job.training.batch,
            "ranks": self._job.execution.ranks,
            "precision": self._precision,
            "optimizer": self._job.training.optimizer.kind,
            "objective": self._job.training.objective.kind,
            "model": json.dumps(self._job.training.model.model_dump(mode="json"), sort_keys=True)[:6000],
        }
        for name in self._job.execution.telemetry:
            self._trackers.append(
                make_tracker(name, self._folder, run=self._job.config_digest, step=step, parameters=parameters)
            )
        for row in rows:
            self.row(row)

    def row(self, row: Mapping[str, Any]) -> None:
        """Write a row of the curve: numbers as scalars, what the model wrote as text."""
        step = row["step"]
        values = {
            name: value for name, value in row.items()
            if name not in ("step", SAMPLES) and value is not None and math.isfinite(value)
        }  # fmt: skip
        if "loss" in values and self._job.training.objective.kind == "causal":
            train = self._job.train  # bits a byte of a batch, by the tokens that a byte of the split has
            values["bits_per_byte"] = values["loss"] / math.log(2) * train.tokens / train.bytes
        self.latest |= values
        written = "\n\n".join(f"{sample['prompt']}▸{sample['text']}" for sample in row.get(SAMPLES, []))
        for tracker in self._trackers:
            if step > tracker.last_step:
                tracker.scalars(step, values)
                if written:
                    tracker.text(step, SAMPLES, written)

    def throughput(self, step: int, meter: Meter) -> None:
        """Write how fast training has been since the last time, and how much memory it takes."""
        rate = meter.since_last()
        if rate is None:
            return
        mfu, _ = utilisation(
            flops_per_second=self._token_flops * rate.tokens_per_second,
            device=self._device,
            precision=self._precision,
            ranks=self._job.execution.ranks,
        )
        values: dict[str, float | None] = {
            "tokens_per_second": round(rate.tokens_per_second, 1),
            "step_seconds": round(rate.step_seconds, 6),
            "data_share": round(rate.data_share, 5),
            "mfu": None if mfu is None else round(mfu, 5),
            "skipped_steps": meter.skipped,
            **memory(),
        }
        self._throughput.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._throughput.flush()
        known = {name: value for name, value in values.items() if value is not None}
        self.latest |= known
        for tracker in self._trackers:
            if step > tracker.last_step:
                tracker.scalars(step, known)

    def close(self, outcome: Outcome) -> None:
        """Write out what is buffered and say how the run ended; once only, as a run that is written may still fail."""
        self._throughput.close()
        while self._trackers:
            self._trackers.pop().close(outcome)
