"""The group of ranks under supervision: started, watched, tried again with less memory, and ended.

Why a group came to no result becomes an error that decides whether the orchestrator tries again.  What was found out
about memory lies beside the checkpoints, so that a later life of the run does not find it out again.
"""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.canonical import digest_of
from infra.errors import DataError, PreemptedError, StepTimeoutError, WorkerDiedError
from infra.launch import run_group
from infra.storage import Storage
from models.job import (
    PROGRESS,
    Failure,
    Job,
    failure_folder,
    first_cause,
    result_file,
    stack_folder,
    stop_note,
)
from models.machine_memory import machine_memory
from models.watch import read_stacks

log = logging.getLogger(__name__)

MICRO_BATCH = "micro_batch.json"
"""File of a run's partial storage that says which micro-batch was small enough, and where."""
_LAST_LINES = 15
# What rank 0 says (models/train.py) that somebody who looks on should know as it happens.
_OF_FIRST_RANK = re.compile(r"\S+ \S+ (?=WARNING|INFO rank 0: resumed)(WARNING|INFO) rank 0: (.*)")
_OF_MEMORY = (
    "ranks", "zero_stage", "tensor_parallel", "pipeline_stages", "offload_optimizer", "offload_parameters",
    "activation_checkpointing", "loss_chunk", "compile",
)  # fmt: skip
"""Fields of the execution on which it depends, besides the micro-batch, how much memory a step takes."""


def train(job: Job, report: "Lines") -> dict[str, Any]:
    """Run the group until it has a result, with a smaller micro-batch each time that memory is short; return it.

    Raises what explains a run without a result.  The result file, not the exit status, is the evidence: a rank may
    still abort on its way out when all is written.
    """
    job = _with_known_micro_batch(job)
    while True:
        status = _run(job, report)
        if result_file(job.scratch).exists():
            result: dict[str, Any] = json.loads(result_file(job.scratch).read_bytes())
            return result
        cause = first_cause(job.scratch)
        if (cause is None or cause.kind == "infrastructure") and stop_note(job.scratch).exists():
            raise PreemptedError(
                "pretrain: told to stop, and the ranks ended before they could save; the same run goes on from its "
                "newest checkpoint"
            )
        if cause is None:
            raise WorkerDiedError(f"pretrain: the process group ended with status {status}; {report.last()}")
        if cause.kind != "memory":
            raise cause.error()
        job = _with_smaller_micro_batch(job, cause)
        _remember_micro_batch(job)


def _run(job: Job, report: "Lines") -> int:
    """Run the group once and return its exit status; raises StepTimeoutError where it makes no progress."""
    result_file(job.scratch).unlink(missing_ok=True)
    for folder in (failure_folder(job.scratch), stack_folder(job.scratch)):
        shutil.rmtree(folder, ignore_errors=True)
    job_file = job.scratch / "job.json"
    job_file.write_text(job.model_dump_json(indent=1), encoding="utf-8")
    execution = job.execution
    try:
        return run_group(
            ["-m", "models.train", str(job_file)],
            ranks=execution.ranks,
            launcher=execution.node_launcher,
            cluster=execution.cluster,
            folder=job.scratch / "group",
            env={"OMP_NUM_THREADS": str(job.threads)},
            on_line=report.take,
            timeout=execution.hang_seconds,
        )
    except StepTimeoutError as error:
        last = report.last()
        for rank, stacks in read_stacks(stack_folder(job.scratch)).items():
            report.note(f"where rank {rank} was when it was ended:\n{stacks}")
        raise StepTimeoutError(
            f"pretrain: no progress for {execution.hang_seconds:g} s, so the ranks were ended; raise "
            f"execution.hang_seconds if one step may take longer; the stacks of all ranks are in {report.path}; {last}"
        ) from error
    finally:
        if execution.nvme_path is not None:  # the run's own folder there, whatever has ended the ranks
            shutil.rmtree(execution.nvme_path, ignore_errors=True)


def _with_smaller_micro_batch(job: Job, cause: Failure) -> Job:
    """Return the job with half the micro-batch and the same batch; raises DataError if one sequence does not fit."""
    batch, execution = job.training.batch, job.execution
    micro = execution.smaller_micro_batch(batch)
    if micro is None:
        raise DataError(
            f"pretrain: not even execution.micro_batch=1 fits into memory ({cause.message}); use a smaller model or "
            "model.sequence_length, or a higher execution.zero_stage with more ranks"
        )
    log.warning("pretrain: %s; going on with execution.micro_batch=%d, batch=%d as before", cause.message, micro, batch)
    return job.model_copy(update={"execution": execution.model_copy(update={"micro_batch": micro})})


def _remember_micro_batch(job: Job) -> None:
    """Let later lives of the run, on any machine, begin with the job's micro-batch."""
    known = {"micro_batch": job.execution.micro_batch, "where": _where(job)}
    Storage(job.checkpoints).write_bytes(MICRO_BATCH, json.dumps(known).encode())


def _with_known_micro_batch(job: Job) -> Job:
    """Return the job with the micro-batch that an earlier life has come down to, where that is smaller.

    What was found out on other devices, or with other settings that take memory, says nothing.
    """
    storage = Storage(job.checkpoints)
    if not storage.exists(MICRO_BATCH):
        return job
    known = json.loads(storage.read_bytes(MICRO_BATCH))
    micro, _ = job.execution.plan(job.training.batch)
    if known["where"] != _where(job) or known["micro_batch"] >= micro:
        return job
    log.info("pretrain: execution.micro_batch=%d, as more did not fit into memory before", known["micro_batch"])
    return job.model_copy(update={"execution": job.execution.model_copy(update={"micro_batch": known["micro_batch"]})})


def _where(job: Job) -> str:
    """Return a digest of what else decides how much memory a step takes, and has."""
    cluster = job.execution.cluster
    return digest_of(
        {"device": machine_memory().name if cluster is None else cluster.model_dump(mode="json")}
        | job.execution.model_dump(mode="json", include=set(_OF_MEMORY))
    )


class Lines:
    """What the ranks write: progress goes to the attempt, the rest to a log file, the last of it into errors."""

    def __init__(self, path: Path, progress: Callable[[int, int | None, str, dict[str, float]], None]) -> None:
        self.path, self._stream = path, path.open("a", encoding="utf-8")
        self._progress, self._tail = progress, list[str]()

    def take(self, line: str) -> bool:
        """Handle one line; tell whether it says that training goes on."""
        if line.startswith(PROGRESS):
            now = json.loads(line.removeprefix(PROGRESS))
            self._progress(now["done"], now["total"], "steps", now["latest"])
            return True
        self._stream.write(line + "\n")
        self._stream.flush()
        self._tail = [*self._tail[1 - _LAST_LINES :], line]
        if (said := _OF_FIRST_RANK.match(line)) is not None:  # a damaged checkpoint, where the run goes on
            log.log(logging.getLevelNamesMapping()[said[1]], "pretrain: %s", said[2])
        else:
            log.debug("%s", line)
        return False

    def note(self, text: str) -> None:
        """Add to the log file."""
        self._stream.write(text + "\n")

    def last(self) -> str:
        """Return the last lines."""
        return "last lines of its log: " + " | ".join(self._tail)

    def close(self) -> None:
        """Close the log file."""
        self._stream.close()
