"""An interpolated 5-gram model of the training tokens: the strongest line that knows nothing but counts.

Modified Kneser-Ney smoothing (Chen and Goodman 1999, "An empirical study of smoothing techniques for language
modeling", section 3; the counts of shorter n-grams are those of KenLM, Heafield et al. 2013), over exactly the tokens
that the model reads, a document at a time: an n-gram may begin or end with an end-of-document token, and has none
within.  A document that a packed window cut counts as two.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

ORDER: Final = 5
"""Tokens of the longest n-grams."""

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def training_tokens(paths: Iterable[Path], dtype: str, limit: int) -> Ints:
    """Return the first `limit` tokens of shards of raw little-endian integers."""
    kind, found, left = np.dtype(dtype).newbyteorder("<"), [np.empty(0, np.int64)], limit
    for path in paths:
        part = np.fromfile(path, kind, count=left).astype(np.int64)
        found.append(part)
        left -= len(part)
        if not left:
            break
    return np.concatenate(found)


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length, ascending by a key of each: the number of its first n - 1 tokens among the n-grams of
    that length, times the vocabulary, plus its last token."""

    keys: Ints
    share: Floats
    """Of each n-gram: its discounted count over that of all n-grams with its first n - 1 tokens."""
    left: Floats
    """Of each (n - 1)-gram: the share that is left to what shorter n-grams say; 1 where nothing was seen after it."""


class NgramModel:
    """Counts n-grams of a text once, in some 80 bytes a token, then tells what it costs to predict others."""

    def __init__(self, tokens: Ints, *, vocabulary: int, end: int, order: int = ORDER) -> None:
        self.tokens, self._vocabulary, self._end = len(tokens), vocabulary, end
        text = np.concatenate([[end], tokens, [end]])
        text = text[np.append(True, (text[1:] != end) | (text[:-1] != end))]  # what fills windows up is no document
        self._orders = list(self._count(text, order))

    def nats(self, tokens: Ints) -> Floats:
        """Return -ln p of each token of a document after those before it, the first one after an end token."""
        text = np.append(self._end, tokens)
        chances = np.full(len(text), 1.0 / self._vocabulary)
        before = np.zeros(len(text), np.int64)  # number of the n-gram that ends before each token; -1 for none
        for order in self._orders:
            at = np.flatnonzero(before >= 0)
            found = _positions(order.keys, before[at] * self._vocabulary + text[at])
            share = np.where(found >= 0, order.share[found], 0.0)
            chances[at] = share + order.left[before[at]] * chances[at]
            ends = np.full(len(text), -1)
            ends[at] = found
            before = np.append(-1, ends[:-1])
        nats: Floats = -np.log(chances[1:])
        return nats

    def _count(self, text: Ints, longest: int) -> Iterator[_Order]:
        """Yield the n-grams of each length, shortest first.

        An n-gram counts as often as different tokens stand before it; one of the longest, or one at the beginning of a
        document, as often as it occurs.
        """
        keys, ends = np.arange(self._vocabulary), text  # ends: number of the n-gram that ends at each token, or -1
        leads = np.zeros(self._vocabulary, np.bool_)  # whether an n-gram begins with an end token
        contexts = 1
        for length in range(1, longest + 1):
            counts = np.bincount(ends[1:][ends[1:] >= 0], minlength=len(keys))
            if length == longest:
                yield self._order(keys, counts, contexts)
                return
            follows = np.append(False, ends[:-1] >= 0)
            if length > 1:
                follows[1:] &= text[:-1] != self._end
            at = np.flatnonzero(follows)
            longer, firsts, numbers = np.unique(
                ends[at - 1] * self._vocabulary + text[at], return_index=True, return_inverse=True
            )
            before = np.bincount(ends[at[firsts]], minlength=len(keys))
            yield self._order(keys, np.where(leads, counts, before), contexts)
            contexts = len(keys)
            prefix = longer // self._vocabulary
            leads = prefix == self._end if length == 1 else leads[prefix]
            keys, ends = longer, np.full(len(text), -1)
            ends[at] = numbers

    def _order(self, keys: Ints, counts: Ints, contexts: int) -> _Order:
        """Discount counts by what is known of how often they are too high, and give what is left to shorter n-grams."""
        discounts = _discounts(counts)[np.minimum(counts, 3)]
        context = keys // self._vocabulary
        total = np.bincount(context, weights=counts, minlength=contexts)
        taken = np.bincount(context, weights=discounts, minlength=contexts)
        seen = total > 0
        left = np.divide(taken, total, out=np.ones(contexts), where=seen)
        share = np.divide(counts - discounts, total[context], out=np.zeros(len(keys)), where=seen[context])
        return _Order(keys, share, left)


def _discounts(counts: Ints) -> Floats:
    """Return what is taken from counts of 0, 1, 2, and 3 or more (Chen and Goodman 1999, equation 26).

    Where some of the counts up to 4 do not occur, or nothing would be taken from one, it is KenLM's 0.5, 1 and 1.5.
    """
    of = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(np.float64)
    if of.all():
        share = of[0] / (of[0] + 2 * of[1])
        taken = [number - (number + 1) * share * of[number] / of[number - 1] for number in (1, 2, 3)]
        if min(taken) > 0:
            return np.array([0.0, *taken])
    return np.array([0.0, 0.5, 1.0, 1.5])


def _positions(ordered: Ints, wanted: Ints) -> Ints:
    """Return where each value stands in an ordered array; -1 where it does not."""
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where(ordered[at] == wanted, at, -1)
