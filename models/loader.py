"""What the training loop is fed: the batches of a job's steps, ready before they are needed."""

from pathlib import Path

import torch

from models.data import TokenStream, TrainingData
from models.job import Job, Split
from models.objectives import build_objective, read_vocabulary
from models.order import TrainingOrder
from models.prefetch import Prefetcher, Ready
from models.shards import RemoteTokens, Shards, Wanted, shards_to_keep

_REMOTE_STEPS = 8
_REMOTE_THREADS = 4
"""Steps that are fetched at once where shards lie on remote storage: a request takes tens of milliseconds."""


def open_stream(job: Job, split: Split, shards: Shards, *, window: int | None = None) -> TokenStream:
    """Return the tokens of a split as one stream; where documents end, only if somebody asks for it."""
    asked = job.training.document_mask or window is not None
    return TokenStream(
        split.shards,
        job.dtype,
        ends=split.ends if asked else (),
        pieces=split.pieces if window is not None else (),
        window=window,
        remote=shards,
    )


class Loader:
    """The data of one rank, from a step on.

    rank, ranks: of the replicas, which read different sequences of a step.
    """

    def __init__(self, job: Job, *, micro_batch: int, rank: int, ranks: int, device: torch.device) -> None:
        training, train = job.training, job.train
        self.shards = Shards(Path(job.cache), job.cache_bytes)
        self._stream = open_stream(job, train, self.shards, window=train.window)
        self.validation = open_stream(job, job.validation, self.shards)
        self._steps = training.steps
        self.order = TrainingOrder.of(
            training, tokens=len(self._stream), stages=train.stages, packed=train.window is not None
        )
        vocabulary = read_vocabulary(job.tokenizer, job.special_tokens_map, size=job.vocab_size, end=job.eod)
        objective = build_objective(
            training.objective,
            vocabulary,
            sequence_length=training.model.sequence_length,
            seed=training.seed,
            packed=train.window is not None,
            documents=training.document_mask,
        )
        self.uneven = objective.uneven
        """Whether micro-batches have more or fewer targets that count."""
        data = TrainingData(
            self._stream,
            self.order,
            rank=rank,
            ranks=ranks,
            micro_batch=micro_batch,
            eod=job.eod,
            documents=training.document_mask,
            objective=objective,
        )
        ahead = {"depth": _REMOTE_STEPS, "threads": _REMOTE_THREADS} if self._stream.remote else {}
        self._prefetcher = Prefetcher(lambda step: list(data.step(step)), steps=training.steps, device=device, **ahead)
        self._begun = False

    def take(self, step: int) -> Ready:
        """Return this rank's micro-batches of a step, on the device; those of the next steps are made meanwhile.

        Raises DataError or StorageError, with the URL, where shards cannot be read or are not what they should be.
        """
        if not self._begun:
            self._begun = True
            always = [Wanted(tokens, step, self._steps + 1) for tokens, _, _ in self.validation.shards
                      if isinstance(tokens, RemoteTokens)]  # fmt: skip
            wanted = shards_to_keep(self._stream.shards, self.order, step=step, steps=self._steps)
            self.shards.keep(always + wanted)
        self.shards.advance(step)
        return self._prefetcher.take(step)

    def close(self) -> None:
        """End what runs in the background."""
        self.shards.close()
        self._prefetcher.close()
