"""Train one model: what each rank of the process group runs.

    python -m models.train JOB.json          under infra.launch.run_group, the deepspeed launcher or torchrun

Reads the job, resumes from the newest complete checkpoint if there is one, trains, validates, and writes the model
artifact.  A run that was killed and resumed ends in the same bytes as one that was not.  Why a rank failed is left
in SCRATCH/failures; SCRATCH/result.json appears when everything has been written.
"""

import json
import logging
import os
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import DataError, PreemptedError, UserError
from models.job import PROGRESS, Failure, Job, failure_folder, stack_folder, stop_note

if TYPE_CHECKING:
    from models.guard import Rollback

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 1.0


class Trainer:
    """One rank of one training run."""

    def __init__(self, job: Job) -> None:
        import torch.distributed as dist

        from models.checkpointing import Checkpointing, State
        from models.ema import Average
        from models.engine import build_engine, initialise_processes, resolve_precision
        from models.guard import Guard
        from models.loader import Loader
        from models.telemetry import Logs, Meter
        from models.telemetry.samples import make_sampler
        from models.transformer import attention_backend
        from models.validation import Validation
        from models.watch import Preemption, StackDump

        self.job, training, execution = job, job.training, job.execution
        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if self.ranks != execution.ranks:
            raise UserError(
                f"pretrain: execution.ranks={execution.ranks}, but the launcher started {self.ranks} processes"
            )
        self.dist = dist
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
        replica, replicas = execution.replica(self.rank), execution.replicas
        self.loader = Loader(job, micro_batch=self.micro, rank=replica, ranks=replicas, device=self.device)
        for name, steps, windows, passes in self.loader.order.passes():
            self.say("stage %s: %d steps read its %d sequences %.2f times", name, steps, windows, passes)
        self.validation = Validation(
            job, self.loader.validation, micro_batch=self.micro, rank=replica, ranks=replicas, device=self.device
        )
        self.engine = build_engine(
            training,
            execution,
            vocab_size=job.vocab_size,
            precision=self.precision,
            device=self.device,
            initial_weights=job.initial_weights,
        )
        average = Average(training.ema, self.engine.model) if training.ema else None
        self.state = State(Guard(training.guard), average)
        self.checkpointing = Checkpointing(job, self.engine, precision=self.precision)
        self.meter = Meter()
        self.logs = Logs(job, precision=self.precision) if self.rank == 0 else None
        self.sampler = make_sampler(job)
        self._said = 0.0
        self._event: dict[str, int] = {}

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
            self.logs.open(self.state.curve.rows, resumed=self.state.step > 0)

    def train(self) -> None:
        """Train from where the run is to its last step.

        Raises DataError where too many steps were not finite or the loss stays high however often the run is rolled
        back, and PreemptedError, once a checkpoint is complete, where it was told to stop.
        """
        steps = self.job.training.steps
        while self.state.step < steps:
            rollback = self.train_step()
            if rollback is not None:
                self.roll_back(rollback)
                continue  # the checkpoint gone back to stays as it is
            told, due = self._agree(self.preemption.told, self.checkpointing.due(self.state.step))
            told = told and self.state.step < steps
            if told or due:
                self.checkpointing.save(self.state)
            if told:
                self._stop()
            self.checkpointing.check()
            self._progress()

    def train_step(self) -> "Rollback | None":
        """Take one step, validate if it is time, and note both; return where to go back to, if the loss stays high."""
        from models.engine import sum_over_replicas
        from models.schedule import learning_rate_fraction

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
        self._note(done, loss, norm, skipped=skipped, learning_rate=training.optimizer.learning_rate * fraction)
        return state.guard.note(done, loss, norm, applied=not skipped)

    def _note(self, done: int, loss: float, norm: float | None, *, skipped: bool, learning_rate: float) -> None:
        """Write a line of the curve if one is due, with a validation and samples if these are due."""
        from models.telemetry import SAMPLES

        training = self.job.training
        last = done == training.steps
        validate = last or (training.validate_every > 0 and done % training.validate_every == 0)
        sample = self.sampler is not None and (last or done % training.sample_every == 0)
        if not (validate or sample or skipped or self._event) and done % training.curve_every:
            return
        row: dict[str, Any] = {
            "step": done,
            "tokens": self.state.tokens,
            "loss": loss if norm is not None else None,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
        }
        if skipped:
            row["skipped"] = 1
        row |= self._event
        self._event = {}
        average = self.state.average
        with average.in_place() if average is not None and (validate or sample) else nullcontext():
            if validate:
                row["validation_loss"], row["validation_bits_per_byte"] = self.validate(whole=last)
            if sample and self.sampler is not None:
                row[SAMPLES] = self.sampler.sample(self.engine, done)
        self.state.curve.add(**row)
        if self.logs is not None:
            self.logs.row(row)
            self.logs.throughput(done, self.meter)

    def validate(self, *, whole: bool) -> tuple[float, float | None]:
        """Return nats a target, and bits a byte, over the validation split or the prefix of it that the recipe names.

        There are bits a byte only where the network predicts the whole text.
        """
        prefix = None if whole else self.job.training.validation_tokens
        return self.validation.losses(self.engine, tokens=prefix, progress=self._progress)

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

    def roll_back(self, rollback: "Rollback") -> None:
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
        self._event = {"rolled_back_from": step, "skipped_batches": self.state.guard.skipped_batches}
        self.say(
            "the loss stayed high up to step %d: rolled back to step %d, passing over %d batches (%d of at most %d)",
            step,
            self.state.step,
            len(passed),
            self.state.guard.rollbacks,
            guard.rollback.most,
        )

    def _agree(self, told: bool, due: bool) -> tuple[bool, bool]:
        """Return whether any rank was told to stop, and whether rank 0 finds a checkpoint due: alike on every rank."""
        if self.ranks == 1:
            return told, due
        from models.engine import any_rank

        found = any_rank([told, due and self.rank == 0], self.device)
        return found[0], found[1]

    def _stop(self) -> None:
        """Wait until the checkpoint is complete on every rank, and raise PreemptedError."""
        self.checkpointing.wait()
        self.dist.barrier()
        raise PreemptedError(
            f"pretrain: told to stop; the checkpoint after step {self.state.step} of {self.job.training.steps} is "
            "complete, and the same run goes on from it"
        )

    def _progress(self) -> None:
        self.stacks.progress()
        if self.logs is not None and time.monotonic() - self._said >= _PROGRESS_SECONDS:
            self._said = time.monotonic()
            now = {"done": self.state.step, "total": self.job.training.steps, "latest": self.logs.latest}
            sys.stdout.write(f"{PROGRESS}{json.dumps(now)}\n")
            sys.stdout.flush()

    # --- the artifact

    def finish(self) -> None:
        """Write the model artifact, then the measurements that say it is whole."""
        weights = self.engine.full_weights()
        self.checkpointing.wait()
        if self.rank == 0:
            from models.artifact import write_artifact

            assert self.logs is not None
            self.logs.close()
            write_artifact(
                self.job,
                weights,
                average=self.state.average.weights() if self.state.average is not None else None,
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
        self.dist.barrier()
        self.stacks.close()


def _failure(exc: BaseException, rank: int) -> Failure:
    """Say what kind of failure it is: that decides whether the orchestrator tries again."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, UserError):
        return Failure(kind="user", rank=rank, message=text)
    if isinstance(exc, DataError):
        return Failure(kind="data", rank=rank, message=text)
    if isinstance(exc, PreemptedError):
        return Failure(kind="preempted", rank=rank, message=text)
    out_of_memory = isinstance(exc, MemoryError) or type(exc).__name__ == "OutOfMemoryError"
    if out_of_memory or "can't allocate memory" in text or "out of memory" in text.lower():
        return Failure(kind="memory", rank=rank, message=f"out of memory: {text[:200]}")
    return Failure(kind="infrastructure", rank=rank, message=f"{type(exc).__name__}: {text[:500]}")


def main(argv: list[str]) -> int:
    """Run the job in the file that the one argument names; returns the exit status."""
    rank = int(os.environ.get("RANK", "0"))
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s %(levelname)s rank {rank}: %(message)s"
    )
    job = Job.model_validate_json(Path(argv[0]).read_bytes())
    try:
        trainer = Trainer(job)
        trainer.resume()
        trainer.train()
        trainer.finish()
    except Exception as exc:
        if isinstance(exc, PreemptedError):
            log.info("%s", exc)
        else:
            traceback.print_exc()
        failure_folder(job.scratch).mkdir(parents=True, exist_ok=True)
        path = failure_folder(job.scratch) / f"rank-{rank:05d}.json"
        temporary = path.with_suffix(".new")  # the rank may be ended while it writes
        temporary.write_text(_failure(exc, rank).model_dump_json())
        temporary.replace(path)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the process group's threads now and then abort an orderly exit after all work is done
