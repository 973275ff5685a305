"""What a training process is told: one JSON file, written by the task and read by every rank."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from infra.errors import DataError, MillraceError, PreemptedError, UserError, WorkerDiedError
from infra.preemption import NOTE
from models.cache import StoredFile
from models.config import ExecutionConfig, TrainingConfig
from models.order import Stage

PROGRESS = "@progress "
"""Lines of rank 0 that begin so carry a JSON object with `done` and `total` steps, and say that it lives."""


class Split(BaseModel):
    """One split of the tokens artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: list[StoredFile]
    tokens: int
    """Tokens of text and the end tokens of documents."""
    bytes: int
    """UTF-8 bytes of the split's text."""
    ends: list[StoredFile] = []
    """Files that say where documents end, one a shard; none where nobody asks."""
    pieces: list[StoredFile] = []
    """Files that say which document a piece is of, one a shard, where shards are laid out in windows."""
    window: int | None = None
    """Tokens of these windows."""
    stages: list[Stage] = []
    """Stretches of the shards, for stretches of the steps; none where the whole is one."""


class Job(BaseModel):
    """Everything that `python -m models.train` needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: TrainingConfig
    execution: ExecutionConfig
    threads: int
    """CPU threads of each rank."""
    dtype: Literal["uint16", "uint32"]
    vocab_size: int
    eod: int
    train: Split
    validation: Split
    tokenizer: Path
    """tokenizer.json of the vocabulary."""
    special_tokens_map: Path
    """special_tokens_map.json of the vocabulary."""
    token_bytes: Path
    """.npy with the UTF-8 bytes that each token of the vocabulary stands for (none for special tokens)."""
    cache: Path
    """Local folder for shards of remote storage, which the ranks of a machine share."""
    cache_bytes: int | None = None
    """Most bytes of them; a share of what the disk has left by default."""
    initial_weights: Path | None = None
    """model.safetensors that training starts from; drawn by the seed by default."""
    config_digest: str
    """Identity of the run: a checkpoint of another one is refused."""
    tokenizer_digest: str
    checkpoints: str
    """Storage prefix for checkpoints (any fsspec URL)."""
    scratch: Path
    """Local folder that survives a kill: staged and fetched checkpoints, errors, the result."""
    output: Path
    """Local folder of the model artifact."""


class Failure(BaseModel):
    """Why a rank ended, as it says itself."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["user", "data", "memory", "preempted", "infrastructure"]
    rank: int
    message: str

    def error(self) -> MillraceError:
        """Return the error to raise in the task, which decides whether the orchestrator tries again."""
        if self.kind == "user":
            return UserError(self.message)
        if self.kind == "preempted":
            return PreemptedError(self.message)
        if self.kind == "infrastructure":
            return WorkerDiedError(f"pretrain: rank {self.rank}: {self.message}")
        return DataError(self.message)


_ORDER = ("user", "data", "memory", "preempted", "infrastructure")


def first_cause(scratch: Path) -> Failure | None:
    """Return the failure that explains the others: peers of a rank that failed only report a broken connection."""
    found = [Failure.model_validate_json(p.read_text()) for p in sorted(failure_folder(scratch).glob("rank-*.json"))]
    return min(found, key=lambda f: (_ORDER.index(f.kind), f.rank), default=None)


def failure_folder(scratch: Path) -> Path:
    """Return where ranks say why they ended."""
    return scratch / "failures"


def result_file(scratch: Path) -> Path:
    """Return where rank 0 writes its measurements when, and only when, the whole artifact is written."""
    return scratch / "result.json"


def stop_note(scratch: Path) -> Path:
    """Return the note whose being there tells the ranks to save and stop."""
    return scratch / NOTE


def stack_folder(scratch: Path) -> Path:
    """Return where ranks that hang write where they are."""
    return scratch / "stacks"
