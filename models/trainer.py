"""One rank of one training run: steps, checkpoints, and what is done about the steps that go wrong.

Ranks decide together: whether to stop, to save, to skip a step or to go back follows from numbers that all of them have
alike, or is agreed on (`any_rank`), so that none waits for another that has gone elsewhere.
"""

import json
import logging
import os
import sys
import time

import torch.distributed as dist

from infra.errors import DataError, PreemptedError, UserError
from models.artifact import write_artifact
from models.checkpointing import Checkpointing, State
from models.ema import Average
from models.engine import any_rank, build_engine, initialise_processes, resolve_precision, sum_over_replicas
from models.guard import Guard, Rollback
from models.job import PROGRESS, Job, stack_folder, stop_note
from models.loader import Loader
from models.recording import Recorder
from models.schedule import learning_rate_fraction
from models.telemetry import Logs, Meter, Outcome, TimeLeft
from models.telemetry.samples import make_sampler
from models.transformer import attention_backend
from models.validation import Validation
from models.watch import Preemption, PutOffError, StackDump

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 1.0


class Trainer:
    """One rank of one training run."""

    def __init__(self, job: Job) -> None:
        self.job, training, execution = job, job.training, job.execution
        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if self.ranks != execution.ranks:
            raise UserError(
                f"pretrain: execution.ranks={execution.ranks}, but the launcher started {self.ranks} processes"
            )
        self.preemption = Preemption(stop_note(job.scratch))
        self.preemption.end_if_told()
        self.stacks = StackDump(stack_folder(job.scratch), self.rank, execution.hang_seconds)
        self.device = initialise_processes(job.threads)
        self.precision, self.precision_reason = resolve_precision(training.precision)
        self.say("training in %s because %s", self.precision, self.precision_reason)
        apart = training.document_mask or training.objective.kind != "causal"
        attention = attention_backend(training.model, self.device.type, documents=apart)
        self.say("attention through %s because %s", *attention)
        self.micro, _ = execution.plan(training.batch)
        share = {"micro_batch": self.micro, "rank": execution.replica(self.rank), "ranks": execution.replicas}
        self.loader = Loader(job, **share, device=self.device)
        for name, steps, windows, passes in self.loader.order.passes():
            self.say("stage %s: %d steps read its %d sequences %.2f times", name, steps, windows, passes)
        validation = Validation(job, self.loader.validation, **share, device=self.device)
        self.engine = build_engine(
            training,
            execution,
            vocab_size=job.vocab_size,
            precision=self.precision,
            device=self.device,
            initial_weights=job.initial_weights,
        )
        self.state = State(Guard(training.guard), Average(training.ema, self.engine) if training.ema else None)
        self.checkpointing = Checkpointing(job, self.engine, precision=self.precision)
        self.meter = Meter()
        self.logs = Logs(job, precision=self.precision) if self.rank == 0 else None
        self.recorder = Recorder(
            job, self.engine, validation=validation, sampler=make_sampler(job), logs=self.logs, meter=self.meter
        )
        self.left = TimeLeft()
        self._said = 0.0

    def say(self, message: str, *args: object) -> None:
        """Log on one rank only."""
        if self.rank == 0:
            log.info(message, *args)

    # --- the loop

    def resume(self) -> None:
        """Go on where an earlier life of the run has stopped, if there was one."""
        self.preemption.end_if_told()
        self.checkpointing.resume(self.state)
        if self.logs is not None:
            self.logs.open(self.state.curve.rows, step=self.state.step - (self.state.row is not None))

    def train(self) -> None:
        """Train from where the run is to its last step.

        Raises DataError where too many steps were not finite or the loss stays high however often the run is rolled
        back, and PreemptedError, once a checkpoint is complete, where it was told to stop.
        """
        steps, state = self.job.training.steps, self.state
        while state.step < steps or state.row is not None:
            if state.row is not None:  # an earlier life was told to stop while it measured
                self._measure()
            elif (rollback := self.train_step()) is not None:
                self.roll_back(rollback)
                continue  # the checkpoint gone back to stays as it is
            told, due = self._agree(self.preemption.told, self.checkpointing.due(state.step))
            told = told and (state.step < steps or state.row is not None)
            if told or due:
                self.checkpointing.save(state)
            if told or (due and self._told() and state.step < steps):  # saving may have waited for the one before it
                self._stop()
            self.checkpointing.check()
            self._progress(now=state.step == steps)

    def train_step(self) -> Rollback | None:
        """Take one step, and note and measure what is due; return where to go back to, if the loss stays high."""
        training, state = self.job.training, self.state
        step = state.step
        batch = state.guard.batch_of(step)
        if self.loader.order.begins_stage(batch):
            state.guard.forget()
        started = time.perf_counter()
        ready = self.loader.take(batch)
        waited = time.perf_counter() - started
        fraction = learning_rate_fraction(training.schedule, step=step, steps=training.steps)
        scored = None
        if self.loader.uneven:
            scored = int(sum_over_replicas([ready.scored], self.job.execution, self.device)[0])
        outlying: list[bool] = []

        def decide(loss: float, norm: float) -> bool:
            outlying.append(state.guard.is_outlier(loss, norm))
            return not outlying[-1]

        loss, norm = self.engine.step(ready.batches, fraction, scored, decide)
        skipped = norm is None or any(outlying)
        tokens = self.loader.order.growth.tokens_of(batch)
        self.meter.step(seconds=time.perf_counter() - started, data_seconds=waited, tokens=tokens)
        state.step = done = step + 1
        state.tokens += tokens
        if skipped:
            self.meter.skipped += 1
            self._skipped(done, loss, norm)
        elif state.average is not None:
            state.average.update()
        rollback = state.guard.note(done, loss, norm, applied=not skipped)
        if rollback is None:
            rate = training.optimizer.learning_rate * fraction
            self.recorder.begin(state, loss=loss, norm=norm, skipped=skipped, learning_rate=rate)
            self._measure()
        return rollback

    def _measure(self) -> None:
        """Complete the row of the curve that was begun; it stays where the ranks are told to stop meanwhile."""
        try:
            self.recorder.complete(self.state, self._between)
        except PutOffError:
            self.say("told to stop while measuring after step %d, which the next life of the run does", self.state.step)

    # --- what goes wrong

    def _skipped(self, step: int, loss: float, norm: float | None) -> None:
        if norm is not None:
            self.say("step %d skipped: its loss %.4f or gradient norm %.4f leaves the usual", step, loss, norm)
            return
        bad, most = self.engine.bad_steps, self.job.training.max_bad_steps
        self.say("step %d skipped: its loss %s or gradient is not finite (%d of at most %d)", step, loss, bad, most)
        if bad > most:
            raise DataError(
                f"pretrain: {bad} steps up to step {step} had a non-finite loss or gradient, more than "
                f"max_bad_steps={most}; use a lower learning rate (now {self.job.training.optimizer.learning_rate:g}), "
                "a longer warm-up or qk_norm"
            )

    def roll_back(self, rollback: Rollback) -> None:
        """Go back to before a spike of the loss, and on with later batches; raises DataError after too many times."""
        guard, step = self.job.training.guard, self.state.step
        assert guard is not None
        assert guard.rollback is not None
        if self.state.guard.rollbacks >= guard.rollback.most:
            raise DataError(
                f"pretrain: up to step {step} the loss stayed high {self.state.guard.rollbacks + 1} times, more than "
                f"guard.rollback.most={guard.rollback.most}; use a lower learning rate (now "
                f"{self.job.training.optimizer.learning_rate:g}) or a longer warm-up, or set guard.rollback=null if "
                "the data is so"
            )
        passed = self.checkpointing.roll_back(self.state, rollback)
        if any(self.loader.order.begins_stage(batch) for batch in passed):
            self.state.guard.forget()
        self.state.event = {"rolled_back_from": step, "skipped_batches": self.state.guard.skipped_batches}
        self.say(
            "the loss stayed high up to step %d: rolled back to step %d, passing over %d batches (%d of at most %d)",
            step,
            self.state.step,
            len(passed),
            self.state.guard.rollbacks,
            guard.rollback.most,
        )

    # --- being told to stop

    def _agree(self, told: bool, due: bool) -> tuple[bool, bool]:
        """Return whether any rank was told to stop, and whether rank 0 finds a checkpoint due: alike on every rank."""
        if self.ranks == 1:
            return told, due
        found = any_rank([told, due and self.rank == 0], self.device)
        return found[0], found[1]

    def _told(self) -> bool:
        return self._agree(self.preemption.told, False)[0]

    def _between(self) -> None:
        """Go on to the next batch, or token, of what is measured; raises PutOffError on every rank once one is told."""
        self._progress()
        if self._told():
            raise PutOffError

    def _stop(self) -> None:
        """Wait until the checkpoint is complete on every rank, and raise PreemptedError."""
        self.checkpointing.wait()
        dist.barrier()
        raise PreemptedError(
            f"pretrain: told to stop; the checkpoint after step {self.state.step} of {self.job.training.steps} is "
            "complete, and the same run goes on from it"
        )

    def _progress(self, *, now: bool = False) -> None:
        """Say that this rank gets on, and how far the run is: once in a while, or `now`."""
        self.stacks.progress()
        if self.logs is None or (not now and time.monotonic() - self._said < _PROGRESS_SECONDS):
            return
        self._said = time.monotonic()
        done, total = self.state.step, self.job.training.steps
        latest = self.logs.latest | self.left.after(done, total, self._said)
        sys.stdout.write(f"{PROGRESS}{json.dumps({'done': done, 'total': total, 'latest': latest})}\n")
        sys.stdout.flush()

    # --- the end

    def finish(self) -> None:
        """Write the model artifact, then the measurements that say it is whole."""
        weights, kept = self.engine.full_weights(), self.state.average
        average = self.engine.whole(kept.shares()) if kept is not None else None
        self.checkpointing.wait()
        if self.rank == 0:
            write_artifact(
                self.job,
                weights,
                average=average,
                curve=self.state.curve,
                meter=self.meter,
                parameters=self.engine.parameters,
                bad_steps=self.engine.bad_steps,
                precision=(self.precision, self.precision_reason),
                micro_batch=self.micro,
                device=self.device,
                guard=self.state.guard,
                checkpoint_seconds=self.checkpointing.blocked_seconds,
            )
        self.close("finished")
        dist.barrier()
        self.engine.close()

    def close(self, outcome: Outcome) -> None:
        """Write out what is buffered for those who watch the run, and tell them how it ended."""
        self.stacks.close()
        if self.logs is not None:
            self.logs.close(outcome)
