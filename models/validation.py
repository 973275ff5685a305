"""Validation in the training loop: what the held-out split costs to predict, by all ranks together."""

import math
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch

from infra.errors import DataError
from models.config import CausalConfig
from models.data import Batch, TokenStream, tensors, validation_batches, validation_windows
from models.engine import Engine, sum_over_replicas
from models.job import Job
from models.objectives import build_objective, read_vocabulary

MASK_SEED: Final = 0
"""Seed of what is hidden, or taken out, in validation: the same for all models of a vocabulary."""


class Validation:
    """The validation split, and this rank's share of the work of predicting it."""

    def __init__(
        self, job: Job, stream: TokenStream, *, micro_batch: int, rank: int, ranks: int, device: torch.device
    ) -> None:
        self._job, self._micro, self._rank, self._ranks, self._device = job, micro_batch, rank, ranks, device
        self._stream = stream
        training = job.training
        self._causal = isinstance(training.objective, CausalConfig)
        self._objective = build_objective(
            training.objective,
            read_vocabulary(job.tokenizer, job.special_tokens_map, size=job.vocab_size, end=job.eod),
            sequence_length=training.model.sequence_length,
            seed=MASK_SEED,
        )

    def losses(self, engine: Engine, *, tokens: int | None, progress: Callable[[], None]) -> tuple[float, float | None]:
        """Return nats a target and bits a byte over the first `tokens` of the split; over all of it by default.

        Bits a byte are None unless every token is a target, as a causal network's are.  Which tokens are hidden, or
        taken out, depends on their place alone.  Every rank must call it.  `progress` is called after each round of
        batches, by all ranks alike, and may raise to end it.

        Raises DataError where the split is so short that there is no target.
        """
        split = self._job.validation
        tokens = split.tokens if tokens is None else min(tokens, split.tokens)
        nats, scored = 0.0, 0
        # Every rank runs every round (ZeRO-3 gathers in each), but its own batch of the round only.
        for i, batch in enumerate(self._batches(tokens)):
            if i % self._ranks == self._rank:
                nats += self._summed(engine, batch)
                scored += batch.scored
            if (i + 1) % self._ranks == 0:
                progress()
        rounds = -(-tokens // (self._micro * self._objective.window))
        if rounds % self._ranks and self._rank >= rounds % self._ranks:
            self._summed(engine, batch)
        nats, targets = sum_over_replicas([nats, float(scored)], self._job.execution, self._device)
        if not targets:
            raise DataError(
                f"pretrain: objective.kind={self._job.training.objective.kind} asks for none of the {tokens} tokens "
                "that are validated on; raise split.validation_fraction or pretrain.validation_tokens"
            )
        return nats / targets, nats / math.log(2) / self._bytes(tokens) if self._causal else None

    def _batches(self, tokens: int) -> Iterator[Batch]:
        documents, eod = self._job.training.document_mask, self._job.eod
        if self._causal:
            return validation_batches(
                self._stream,
                tokens=tokens,
                eod=eod,
                sequence_length=self._objective.window,
                batch=self._micro,
                documents=documents,
            )
        return validation_windows(
            self._stream, self._objective, tokens=tokens, eod=eod, batch=self._micro, documents=documents
        )

    def _summed(self, engine: Engine, batch: Batch) -> float:
        return engine.summed_loss(tensors(batch, self._device))

    def _bytes(self, tokens: int) -> int:
        if tokens == self._job.validation.tokens:
            return self._job.validation.bytes
        return int(np.load(self._job.token_bytes)[self._stream.read(0, tokens)].sum())
