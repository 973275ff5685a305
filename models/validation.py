"""Validation in the training loop: what the held-out split costs to predict, by all ranks together."""

import math
from collections.abc import Callable

import numpy as np
import torch

from models.data import Batch, TokenStream, tensors, validation_batches
from models.engine import Engine, sum_over_replicas
from models.job import Job


class Validation:
    """The validation split, and this rank's share of the work of predicting it."""

    def __init__(self, job: Job, *, micro_batch: int, rank: int, ranks: int, device: torch.device) -> None:
        self._job, self._micro, self._rank, self._ranks, self._device = job, micro_batch, rank, ranks, device
        self._stream = TokenStream(job.validation.shards, job.dtype, ends=job.validation.ends)

    def losses(self, engine: Engine, *, tokens: int | None, progress: Callable[[], None]) -> tuple[float, float]:
        """Return nats a token and bits a byte over the first `tokens` of the split; over all of it by default.

        Every rank must call it; `progress` is called after each batch.
        """
        split, length = self._job.validation, self._job.training.model.sequence_length
        tokens = split.tokens if tokens is None else min(tokens, split.tokens)
        batches = validation_batches(
            self._stream,
            tokens=tokens,
            eod=self._job.eod,
            sequence_length=length,
            batch=self._micro,
            documents=self._job.training.document_mask,
        )
        nats = 0.0
        # Every rank runs every round (ZeRO-3 gathers in each), but its own batch of the round only.
        for i, batch in enumerate(batches):
            if i % self._ranks == self._rank:
                nats += self._summed(engine, batch)
            progress()
        rounds = -(-tokens // (self._micro * length))
        if rounds % self._ranks and self._rank >= rounds % self._ranks:
            self._summed(engine, batch)
        nats = sum_over_replicas([nats], self._job.execution, self._device)[0]
        return nats / tokens, nats / math.log(2) / self._bytes(tokens)

    def _summed(self, engine: Engine, batch: Batch) -> float:
        return engine.summed_loss(tensors(batch, self._device))

    def _bytes(self, tokens: int) -> int:
        if tokens == self._job.validation.tokens:
            return self._job.validation.bytes
        return int(np.load(self._job.token_bytes)[self._stream.read(0, tokens)].sum())
