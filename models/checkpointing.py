"""When a run's checkpoints are made, what is in them beside the engine, and how a run goes on from one.

The state that every rank has alike (step, curve, guard) is written by rank 0, what differs by each.  The training
loop waits for a copy in host memory and for the checkpoint before; the rest happens in the background
(models/checkpoints/store.py).
"""

import json
import logging
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from infra.errors import DataError, UserError
from infra.storage import Storage
from models.checkpoints import (
    Checkpoint,
    Checkpoints,
    Retention,
    check_resumable,
    convert,
    layout,
    nothing_to_resume,
    same_layout,
)
from models.config import ExecutionConfig, TrainingConfig
from models.ema import Average
from models.engine import Engine
from models.guard import Guard, Rollback
from models.job import Job
from models.telemetry import Curve

log = logging.getLogger(__name__)

_UNFINISHED = "unfinished.json"
"""There where the run was told to stop while it measured: the row of the curve that lacks it, and events untold."""


@dataclass
class State:
    """How far a run is, and what it has seen: the same on every rank."""

    guard: Guard
    average: Average | None = None
    """Of the weights, where one is kept."""
    curve: Curve = field(default_factory=Curve)
    step: int = 0
    """Steps taken, which is the number of the next one."""
    tokens: int = 0
    """Tokens of these steps, which may be fewer at first than later."""
    row: dict[str, Any] | None = None
    """A row of the curve that still lacks a validation or samples."""
    event: dict[str, int] = field(default_factory=dict)
    """What has happened since the last row, and is told in the next one."""


def about(job: Job, *, precision: str) -> dict[str, Any]:
    """Return what a checkpoint says about the run that it is of: what must be the same, and how its state is cut."""
    execution = job.execution
    return {
        "config_digest": job.config_digest,
        "tokenizer_digest": job.tokenizer_digest,
        "optimizer": job.training.optimizer.kind,
        "ranks": execution.ranks,
        "zero_stage": execution.zero_stage,
        "tensor_parallel": execution.tensor_parallel,
        "pipeline_stages": execution.pipeline_stages,
        "offload_optimizer": execution.offload_optimizer,
        "offload_parameters": execution.offload_parameters,
        "precision": precision,
        "threads": job.threads,
        "torch": str(torch.__version__),
    }


def retention(training: TrainingConfig, execution: ExecutionConfig) -> Retention:
    """Return which checkpoints the configuration keeps."""
    rollback = training.guard.rollback if training.guard else None
    return Retention(
        newest=execution.keep_checkpoints,
        every=execution.keep_every,
        steps=execution.keep_steps,
        anchors_every=rollback.every if rollback else None,
    )


class Checkpointing:
    """Saves and restores one rank's share of a run; every rank must make the same calls."""

    def __init__(self, job: Job, engine: Engine, *, precision: str) -> None:
        self.job, self.engine = job, engine
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        local, of_node = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
        self._leads, self._node = local == 0, self.rank // of_node
        self._about = about(job, precision=precision)
        self._store = Checkpoints(
            Storage(job.checkpoints),
            job.scratch,
            retention(job.training, job.execution),
            mark=self._broadcast(uuid.uuid4().hex[:8]),
            rank=self.rank,
            ranks=self.ranks,
            node=self._node,
        )
        self._retention = retention(job.training, job.execution)
        self._saved = time.monotonic()
        self.blocked_seconds = 0.0
        """How long the training loop has waited for checkpoints."""

    # --- going on

    def resume(self, state: State) -> None:
        """Restore the newest complete checkpoint, if there is one.

        Raises UserError where it is of another run or cannot be cut for this one, or there is none and one is
        required, and DataError where there was one.
        """
        self._store.reset_staging()
        found = self._broadcast(self._store.newest() if self.rank == 0 else None)
        if found is None:
            if self.job.execution.resume == "required":
                raise UserError(nothing_to_resume(self.job.checkpoints, len(self._store.names())))
            self._say("no checkpoint in %s: training from the first step", self.job.checkpoints)
            return
        check_resumable(found, self._about)
        self._restore(found, state)
        self._say("resumed after step %d of %d", state.step, self.job.training.steps)

    def roll_back(self, state: State, to: Rollback) -> range:
        """Restore the checkpoint before a spike and forget those after it; return which batches are passed over.

        Raises DataError where it is not there, or is damaged.
        """
        self.wait()
        dist.barrier()
        found = self._broadcast(self._anchor(to.step) if self.rank == 0 else None)
        before, bad = state.guard, self.engine.bad_steps
        state.guard = Guard(before.cfg)
        self._restore(found, state)
        self.engine.bad_steps = bad  # what was skipped since counts, too
        passed = state.guard.rolled_back(to, before)
        if self.rank == 0:
            self._store.remove_after(state.step)
        dist.barrier()
        return passed

    def _anchor(self, step: int) -> Checkpoint:
        name = self._store.at(step)
        if name is None:
            raise DataError(f"pretrain: there is no checkpoint of step {step} to roll back to")
        return self._store.fetch(name)

    def _restore(self, found: Checkpoint, state: State) -> None:
        folder = self._store.fetched(found.name)
        anew = not same_layout(found.about, self._about)
        if self._leads:
            if self._node:  # rank 0 has fetched and chosen it on the first machine
                self._store.fetch(found.name)
            if anew:
                self._say("cutting the checkpoint of %s anew for %s", layout(found.about), layout(self._about))
                convert(folder / "engine" / "engine", folder / "universal" / "engine")
        dist.barrier()
        self.engine.load(folder / ("universal" if anew else "engine"), universal=anew)
        mine = folder / "state" / f"random-{self.rank:05d}.pt"
        if mine.exists():  # at another world size there may be none: then other activations are dropped
            self.engine.set_random_state(torch.load(mine, weights_only=True))
        state.step = found.step
        state.curve = Curve.load(folder / "state" / "curve.jsonl")
        state.tokens = json.loads((folder / "state" / "tokens.json").read_text())
        unfinished = folder / "state" / _UNFINISHED
        held = json.loads(unfinished.read_text()) if unfinished.exists() else {"row": None, "event": {}}
        state.row, state.event = held["row"], held["event"]
        if state.average is not None:
            self._restore_average(state.average, folder / "state", ranks=found.about["ranks"], anew=anew)
        state.guard.restore(json.loads((folder / "state" / "guard.json").read_text()))
        dist.barrier()
        if self._leads:
            self._store.drop_fetched()

    def _restore_average(self, average: Average, folder: Path, *, ranks: int, anew: bool) -> None:
        """Restore this rank's share of the average, of all shares of the `ranks` that cut it where it is cut anew."""
        if anew and self.job.execution.zero_stage == 3:
            held = [torch.load(folder / _average(place), weights_only=True, mmap=True) for place in range(ranks)]
            average.restore_anew(held)
        else:
            average.restore(torch.load(folder / _average(self.engine.place), weights_only=True))

    # --- making them

    def due(self, step: int) -> bool:
        """Tell, on rank 0, whether a checkpoint is to be made after so many steps."""
        execution = self.job.execution
        if step == self.job.training.steps:
            return self._retention.permanent(step)
        if self._retention.due(step):
            return True
        enough = time.monotonic() - self._saved >= execution.checkpoint_seconds
        return enough and step % execution.checkpoint_every == 0

    def save(self, state: State) -> None:
        """Copy the state of this rank, and have it written and published in the background."""
        began = time.monotonic()
        self._store.wait()  # one is under way at most: it is all the memory that they take
        staged = self._store.staging(state.step)
        snapshot = self.engine.snapshot(staged / "engine")
        snapshot.add(Path("state") / f"random-{self.rank:05d}.pt", self.engine.random_state())
        if state.average is not None and self.engine.first_of_its_place:
            snapshot.add(Path("state") / _average(self.engine.place), state.average.state())
        curve, guard, tokens = Curve(list(state.curve.rows)), state.guard.state(), state.tokens
        unfinished = {"row": state.row, "event": state.event}

        def write(folder: Path) -> None:
            snapshot.write(folder)
            if self.rank == 0:
                curve.save(folder / "state" / "curve.jsonl")
                (folder / "state" / "guard.json").write_text(json.dumps(guard, allow_nan=False))
                (folder / "state" / "tokens.json").write_text(json.dumps(tokens))
                if any(unfinished.values()):
                    (folder / "state" / _UNFINISHED).write_text(json.dumps(unfinished, allow_nan=False))

        self._store.publish(state.step, write, self._about)
        self._saved = time.monotonic()
        self.blocked_seconds += self._saved - began

    def check(self) -> None:
        """Raise what made an upload fail, if one has failed."""
        self._store.check()

    def wait(self) -> None:
        """Return when the checkpoint under way is complete as far as this rank can tell; raises what made it fail."""
        began = time.monotonic()
        self._store.wait()
        self.blocked_seconds += time.monotonic() - began

    def _broadcast(self, value: Any) -> Any:
        if self.ranks == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def _say(self, message: str, *args: object) -> None:
        if self.rank == 0:
            log.info(message, *args)


def _average(place: int) -> str:
    """Return the name of the file that has the average of what the ranks in this place hold."""
    return f"average-{place:05d}.pt"
