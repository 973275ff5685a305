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
from pathlib import Path
from typing import Any

from infra.errors import DataError, UserError
from infra.storage import Storage
from models.checkpoints import Checkpoint, Checkpoints, check_resumable
from models.job import PROGRESS, Failure, Job, failure_folder

log = logging.getLogger(__name__)

_PROGRESS_SECONDS = 1.0


class Trainer:
    """One rank of one training run."""

    def __init__(self, job: Job) -> None:
        import torch
        import torch.distributed as dist

        from models.data import TokenStream, TrainingData
        from models.engine import build_engine, initialise_processes, resolve_precision
        from models.order import TrainingOrder
        from models.telemetry import Curve, Logs, Meter
        from models.validation import Validation

        self.job, training, execution = job, job.training, job.execution
        self.rank, self.ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if self.ranks != execution.ranks:
            raise UserError(
                f"pretrain: execution.ranks={execution.ranks}, but the launcher started {self.ranks} processes"
            )
        self.torch, self.dist = torch, dist
        self.device = initialise_processes(job.threads)
        self.precision, self.precision_reason = resolve_precision(training.precision)
        self.say("training in %s because %s", self.precision, self.precision_reason)
        length = training.model.sequence_length
        train = job.train
        stream = TokenStream(train.shards, job.dtype, ends=train.ends, pieces=train.pieces, window=train.window)
        order = TrainingOrder(
            tokens=len(stream),
            sequence_length=length,
            batch=training.batch,
            seed=training.seed,
            stages=train.stages,
            steps=training.steps,
            packed=train.window is not None,
        )
        for name, steps, windows, passes in order.passes():
            self.say("stage %s: %d steps read its %d sequences %.2f times", name, steps, windows, passes)
        self.micro, _ = execution.plan(training.batch)
        replica, replicas = execution.replica(self.rank), execution.replicas
        self.data = TrainingData(
            stream,
            order,
            rank=replica,
            ranks=replicas,
            micro_batch=self.micro,
            eod=job.eod,
            documents=training.document_mask,
        )
        self.validation = Validation(job, micro_batch=self.micro, rank=replica, ranks=replicas, device=self.device)
        self.engine = build_engine(
            training, execution, vocab_size=job.vocab_size, precision=self.precision, device=self.device
        )
        self.checkpoints = Checkpoints(Storage(job.checkpoints), job.scratch, execution.keep_checkpoints)
        self.curve, self.meter = Curve(), Meter()
        self.logs = Logs(job.output / "logs") if self.rank == 0 else None
        self.next_step = 0
        self._saved, self._said = time.monotonic(), 0.0

    def say(self, message: str, *args: object) -> None:
        """Log on one rank only."""
        if self.rank == 0:
            log.info(message, *args)

    # --- resume and checkpoints

    def resume(self) -> None:
        """Restore the newest complete checkpoint, if there is one."""
        found = self._broadcast(self._find_checkpoint() if self.rank == 0 else None)
        if found is None:
            self.say("no checkpoint in %s: training from the first step", self.job.checkpoints)
            return
        from models.telemetry import Curve

        check_resumable(found, self._about())

        self.engine.load(found.directory / "engine")
        state = found.directory / "state"
        mine = state / f"random-{self.rank:05d}.pt"
        if mine.exists():  # at another world size there may be none, and training draws nothing at random
            self.engine.set_random_state(self.torch.load(mine, weights_only=True))
        self.curve = Curve.load(state / "curve.jsonl")
        if self.logs is not None:
            for row in self.curve.rows:
                self.logs.row(row)
        self.next_step = found.step
        self.say("resumed after step %d of %d", found.step, self.job.training.steps)

    def _about(self) -> dict[str, Any]:
        return {
            "config_digest": self.job.config_digest,
            "tokenizer_digest": self.job.tokenizer_digest,
            "ranks": self.ranks,
            "zero_stage": self.job.execution.zero_stage,
            "precision": self.precision,
            "threads": self.job.threads,
            "torch": str(self.torch.__version__),
        }

    def _find_checkpoint(self) -> Checkpoint | None:
        self.checkpoints.reset_staging()
        return self.checkpoints.newest()

    def maybe_checkpoint(self) -> None:
        """Make a checkpoint if one is due; rank 0 decides for all."""
        execution = self.job.execution
        if self.next_step % execution.checkpoint_every or self.next_step == self.job.training.steps:
            return
        due = time.monotonic() - self._saved >= execution.checkpoint_seconds
        if self._broadcast(due):
            self.checkpoint()

    def checkpoint(self) -> None:
        """Stage the state of all ranks, then publish it in the background."""
        if self.rank == 0:
            self.checkpoints.wait()  # the staging folder holds one checkpoint at a time
        self.dist.barrier()
        staged = self.checkpoints.staging(self.next_step)
        (staged / "state").mkdir(parents=True, exist_ok=True)
        self.engine.save(staged / "engine")
        self.torch.save(self.engine.random_state(), staged / "state" / f"random-{self.rank:05d}.pt")
        if self.rank == 0:
            self.curve.save(staged / "state" / "curve.jsonl")
        self.dist.barrier()
        if self.rank == 0:
            self.checkpoints.publish(self.next_step, self._about())
        self._saved = time.monotonic()

    def _broadcast(self, value: Any) -> Any:
        if self.ranks == 1:
            return value
        holder = [value]
        self.dist.broadcast_object_list(holder, src=0)
        return holder[0]

    # --- the loop

    def train(self) -> None:
        """Train from where the run is to its last step."""
        steps = self.job.training.steps
        while self.next_step < steps:
            self.train_step()
            self.maybe_checkpoint()
            self._progress()

    def train_step(self) -> None:
        """Take one step, validate if it is time, and note both in the curve."""
        from models.data import tensors
        from models.engine import sum_over_replicas
        from models.schedule import learning_rate_fraction

        training = self.job.training
        step = self.next_step
        started = time.perf_counter()
        read = list(self.data.step(step))
        batches = [tensors(batch, self.device) for batch in read]
        waited = time.perf_counter() - started
        fraction = learning_rate_fraction(training.schedule, step=step, steps=training.steps)
        # Windows that were laid out have targets that do not count, more or fewer of them in each micro-batch.
        packed = self.job.train.window is not None
        scored = None
        if packed:
            scored = sum(batch.scored for batch in read)
            scored = int(sum_over_replicas([scored], self.job.execution, self.device)[0])
        loss, norm = self.engine.step(batches, fraction, scored)
        tokens = training.batch * training.model.sequence_length
        self.meter.step(seconds=time.perf_counter() - started, data_seconds=waited, tokens=tokens)
        self.next_step = done = step + 1
        if norm is None:
            self._bad_step(done, loss)
        last = done == training.steps
        validate = last or (training.validate_every > 0 and done % training.validate_every == 0)
        if not validate and done % training.curve_every:
            return
        row: dict[str, float | int | None] = {
            "step": done,
            "tokens": done * tokens,
            "loss": loss if norm is not None else None,
            "learning_rate": training.optimizer.learning_rate * fraction,
            "gradient_norm": norm,
        }
        if validate:
            row["validation_loss"], row["validation_bits_per_byte"] = self.validate(whole=last)
        self.curve.add(**row)
        if self.logs is not None:
            self.logs.row(row)
            self.logs.throughput(done, self.meter)

    def _bad_step(self, step: int, loss: float) -> None:
        bad, most = self.engine.bad_steps, self.job.training.max_bad_steps
        self.say("step %d skipped: its loss %s or gradient is not finite (%d of at most %d)", step, loss, bad, most)
        if bad > most:
            raise DataError(
                f"pretrain: {bad} steps up to step {step} had a non-finite loss or gradient, more than "
                f"max_bad_steps={most}; use a lower learning rate (now {self.job.training.optimizer.learning_rate:g}), "
                "a longer warm-up or qk_norm"
            )

    def validate(self, *, whole: bool) -> tuple[float, float]:
        """Return nats a token and bits a byte over the validation split, or the prefix of it that the recipe names."""
        prefix = None if whole else self.job.training.validation_tokens
        return self.validation.losses(self.engine, tokens=prefix, progress=self._progress)

    def _progress(self) -> None:
        if self.rank == 0 and time.monotonic() - self._said >= _PROGRESS_SECONDS:
            self._said = time.monotonic()
            sys.stdout.write(f"{PROGRESS}{json.dumps({'done': self.next_step, 'total': self.job.training.steps})}\n")
            sys.stdout.flush()

    # --- the artifact

    def finish(self) -> None:
        """Write the model artifact, then the measurements that say it is whole."""
        weights = self.engine.full_weights()
        if self.rank == 0:
            from models.artifact import write_artifact

            self.checkpoints.wait()
            assert self.logs is not None
            self.logs.close()
            write_artifact(
                self.job,
                weights,
                curve=self.curve,
                meter=self.meter,
                parameters=self.engine.parameters,
                bad_steps=self.engine.bad_steps,
                precision=(self.precision, self.precision_reason),
                micro_batch=self.micro,
                device=self.device,
            )
        self.dist.barrier()


def _failure(exc: BaseException, rank: int) -> Failure:
    """Say what kind of failure it is: that decides whether the orchestrator tries again."""
    text = " ".join(str(exc).split()) or type(exc).__name__
    if isinstance(exc, UserError):
        return Failure(kind="user", rank=rank, message=text)
    if isinstance(exc, DataError):
        return Failure(kind="data", rank=rank, message=text)
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
        traceback.print_exc()
        failure_folder(job.scratch).mkdir(parents=True, exist_ok=True)
        path = failure_folder(job.scratch) / f"rank-{rank:05d}.json"
        path.write_text(_failure(exc, rank).model_dump_json())
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the process group's threads now and then abort an orderly exit after all work is done
