"""Span corruption (T5): spans are taken out of a text, and written each behind the sentinel that stands in its place.

    text     the mill turns while the water runs
    source   the mill <extra_id_0> the water <extra_id_1> <|endoftext|>
    targets  <extra_id_0> turns while <extra_id_1> runs <|endoftext|>

Spans and what is between them are cut at random, with numbers that follow from the length of the text, so that every
whole window fills its source and its targets.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.batch import IGNORE, PADDING, Batch, Windows
from models.config.objectives import DenoisingConfig
from models.objectives.draws import uniform
from models.objectives.vocabulary import Vocabulary


class Denoising:
    """Takes spans out of windows; which is a function of the seed and the number of each row alone."""

    ahead = 0

    def __init__(
        self, cfg: DenoisingConfig, vocabulary: Vocabulary, *, sequence_length: int, seed: int, packed: bool = False
    ) -> None:
        self.cfg, self.window = cfg, cfg.window(sequence_length)
        self.source_length, self.target_length = sequence_length, cfg.lengths(self.window)[1]
        self.uneven = packed
        self._vocabulary, self._seed = vocabulary, seed

    def batch(self, windows: Windows, rows_B: NDArray[np.uint64]) -> Batch:
        """Return source and targets of windows; padding, which only the end of a window may be, is in neither."""
        tokens_BT, documents_BT, _ = windows
        rows, width = tokens_BT.shape
        lengths_B = np.full(rows, width) if documents_BT is None else (documents_BT != PADDING).sum(axis=1)
        noise_BT, number_BT = self._spans(lengths_B, width, rows_B)
        first_BT = noise_BT & ~np.pad(noise_BT, ((0, 0), (1, 0)))[:, :-1]
        sentinels_BT = self._vocabulary.sentinels[np.maximum(number_BT, 0)]
        left_BT = (np.arange(width) < lengths_B[:, None]) & (~noise_BT | first_BT)
        source_BS, source_documents_BS = self._compacted(
            np.where(first_BT, sentinels_BT, tokens_BT), documents_BT, left_BT, self.source_length
        )
        # A span has one target more than it has tokens: its sentinel, which is of the document of its first token.
        both = np.stack([sentinels_BT, tokens_BT], axis=2).reshape(rows, -1)
        written = np.stack([first_BT, noise_BT], axis=2).reshape(rows, -1)
        twice = None if documents_BT is None else np.repeat(documents_BT, 2, axis=1)
        written_BT, written_documents_BT = self._compacted(both, twice, written, self.target_length)
        if written_documents_BT is not None:  # padding sees the last document: a row that sees nothing is no number
            written_documents_BT = np.maximum.accumulate(written_documents_BT, axis=1)
        count_B = written.sum(axis=1)
        counts_BT = (np.arange(self.target_length) <= count_B[:, None]) & (count_B > 0)[:, None]
        inputs_BT = np.roll(written_BT, 1, axis=1)
        inputs_BT[:, 0] = self._vocabulary.start
        targets_BT = np.where(counts_BT, written_BT, IGNORE)
        return Batch(inputs_BT, targets_BT, written_documents_BT, source_BS, source_documents_BS)

    def _compacted(
        self,
        values: NDArray[np.int64],
        documents: NDArray[np.int64] | None,
        keep: NDArray[np.bool_],
        length: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Return of each row what is kept, an end token and what fills up so many, with the documents of these."""
        row, column = np.nonzero(keep)
        place = (np.cumsum(keep, axis=1) - 1)[row, column]
        out = np.full((len(values), length), self._vocabulary.end)
        out[row, place] = values[row, column]
        if documents is None:
            return out, None
        of = np.full((len(values), length), PADDING)
        of[row, place] = documents[row, column]
        count = keep.sum(axis=1)
        some = np.flatnonzero(count)
        of[some, count[some]] = of[some, count[some] - 1]  # the end is of the last document
        return out, of

    def _spans(
        self, lengths_B: NDArray[Any], width: int, rows_B: NDArray[np.uint64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return, shape (B, width), whether a token is taken out, and the number of its span or the one before it.

        Texts begin with what is left in and end with a span.
        """
        kinds, inverse = np.unique(lengths_B, return_inverse=True)
        counts = np.array([self.cfg.spans(int(length)) if length > 1 else (0, 0) for length in kinds])[inverse]
        noise_B, spans_B = counts[:, 0], counts[:, 1]
        most = int(spans_B.max(initial=0))
        noise_BK = _segments(noise_B, spans_B, most, uniform(self._seed, "noise", rows_B, width))
        text_BK = _segments(lengths_B - noise_B, spans_B, most, uniform(self._seed, "text", rows_B, width))
        ends_B2K = np.cumsum(np.stack([text_BK, noise_BK], axis=2).reshape(len(lengths_B), -1), axis=1)
        changes = np.zeros((len(lengths_B), width + 1), dtype=np.int64)
        np.add.at(changes, (np.arange(len(lengths_B))[:, None], ends_B2K), 1)
        part_BT = np.cumsum(changes[:, :-1], axis=1)
        return part_BT % 2 == 1, (part_BT + 1) // 2 - 1


def _segments(
    items_B: NDArray[Any], segments_B: NDArray[Any], most: int, draws_BN: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Cut rows of items into segments of at least one item each, all ways being as likely; return (B, most) lengths.

    Segments that a row does not have are empty.
    """
    rows, width = draws_BN.shape
    # A cut before an item, but for the first: those with the smallest draws.
    draws_BN = np.where((np.arange(width) >= 1) & (np.arange(width) < items_B[:, None]), draws_BN, 2.0)
    order = np.argsort(draws_BN, axis=1, kind="stable")[:, : max(most - 1, 0)]
    chosen = np.arange(order.shape[1]) < (segments_B - 1)[:, None]
    cuts = np.sort(np.where(chosen, order, items_B[:, None]), axis=1)
    ends = np.concatenate([cuts, np.repeat(items_B[:, None], most - order.shape[1], axis=1)], axis=1)
    lengths: NDArray[np.int64] = np.diff(ends, axis=1, prepend=0)
    assert lengths.shape == (rows, most)
    return lengths
