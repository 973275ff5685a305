"""Train one model: what each rank of the process group runs.

    python -m models.train JOB.json          under infra.launch.run_group, the deepspeed launcher or torchrun

Reads the job, resumes from the newest complete checkpoint if there is one, trains, validates, and writes the model
artifact (models/trainer.py).  A run that was killed and resumed ends in the same bytes as one that was not.  Why a rank
failed is left in SCRATCH/failures; SCRATCH/result.json appears when everything has been written.
"""

import logging
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from infra.errors import DataError, PreemptedError, UserError
from models.job import Failure, Job, failure_folder

if TYPE_CHECKING:
    from models.trainer import Trainer

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Run the job in the file that the one argument names; returns the exit status."""
    rank = int(os.environ.get("RANK", "0"))
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format=f"%(asctime)s %(levelname)s rank {rank}: %(message)s"
    )
    job = Job.model_validate_json(Path(argv[0]).read_bytes())
    trainer = None
    try:
        from models.trainer import Trainer

        trainer = Trainer(job)
        trainer.resume()
        trainer.train()
        trainer.finish()
    except Exception as exc:
        if isinstance(exc, PreemptedError):
            log.info("%s", exc)
        else:
            traceback.print_exc()
        _leave(_failure(exc, rank), job)
        if trainer is not None:
            _close(trainer, preempted=isinstance(exc, PreemptedError))
        return 1
    return 0


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


def _leave(failure: Failure, job: Job) -> None:
    """Write down the failure for the supervisor."""
    folder = failure_folder(job.scratch)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rank-{failure.rank:05d}.json"
    temporary = path.with_suffix(".new")  # the rank may be ended while it writes
    temporary.write_text(failure.model_dump_json())
    temporary.replace(path)


def _close(trainer: "Trainer", *, preempted: bool) -> None:
    """Say to those who watch the run how it ended; that this fails too must not hide why."""
    try:
        trainer.close("preempted" if preempted else "failed")
    except Exception:
        log.warning("what the run was watched with could not be closed", exc_info=True)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the process group's threads now and then abort an orderly exit after all work is done
