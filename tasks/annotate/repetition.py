"""Gopher's repetition signals (Rae et al. 2021, table A1), exactly as datatrove's GopherRepetitionFilter counts them.

Time grows as n log n with the tokens: datatrove builds every n-gram as a string, here n-grams are numbers, and strings
are only compared where numbers agree.
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from tasks.annotate.schema import DUPLICATED_N_GRAMS, TOP_N_GRAMS
from tasks.annotate.words import HASH_BASE, Ids, Vocabulary

_PARAGRAPHS: Final = re.compile(r"\n{2,}")
_LINES: Final = re.compile(r"\n+")

_INVERSE_BASE: Final = pow(HASH_BASE, -1, 1 << 64)
_POWER_BITS: Final = 12


def repetition_signals(text: str, ids: Ids, vocabulary: Vocabulary) -> dict[str, float | None]:
    """Return the shares of repeated paragraphs, lines and n-grams of a text; null where there is nothing to divide by.

    A character share is one of all characters of the text.  Of repeated paragraphs, lines and n-grams only the second
    and later copies count; of the most frequent n-gram all copies do, even a single one.
    """
    if not text:
        return {}
    paragraphs = _PARAGRAPHS.split(text.strip())
    lines = _LINES.split(text)
    repeated_paragraphs, paragraph_characters = repeated(paragraphs)
    repeated_lines, line_characters = repeated(lines)
    signals: dict[str, float | None] = {
        "gopher_dup_para_frac": repeated_paragraphs / len(paragraphs),
        "gopher_dup_para_char_frac": paragraph_characters / len(text),
        "gopher_dup_line_frac": repeated_lines / len(lines),
        "gopher_dup_line_char_frac": line_characters / len(text),
    }
    lengths = vocabulary.lengths(ids)
    for n, characters in top_n_grams(ids, lengths).items():
        signals[f"gopher_top_{n}_gram"] = characters / len(text)
    n_grams = _Joined(ids, lengths, vocabulary)
    for n in DUPLICATED_N_GRAMS:
        signals[f"gopher_duplicated_{n}_n_grams"] = n_grams.repeated_characters(n) / len(text)
    return signals


def repeated(parts: Sequence[str]) -> tuple[int, int]:
    """Return how many parts are equal to an earlier one, and how many characters they have."""
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        else:
            seen.add(part)
    return count, characters


def top_n_grams(ids: Ids, lengths: npt.NDArray[np.int64]) -> dict[int, int]:
    """Return, by n, the characters of all copies of the most frequent n-gram, the first one of several.

    The tokens of an n-gram are joined by single spaces.  An n that is larger than the number of tokens is left out.
    """
    characters: dict[int, int] = {}
    base = int(ids.max()) + 1 if ids.size else 1
    classes = ids
    for n in range(2, max(TOP_N_GRAMS) + 1):
        if ids.size < n:
            break
        # An n-gram is the class of its first n-1 tokens and its last token.
        keys = classes[: ids.size - n + 1] * base + ids[n - 1 :]
        _, first, classes, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        if n in TOP_N_GRAMS:
            most = counts.max()
            start = int(first[counts == most].min())
            characters[n] = (int(lengths[start : start + n].sum()) + n - 1) * int(most)
    return characters


class _Joined:
    """The tokens of a text joined without spaces, with a hash of every token n-gram in constant time.

    The hash is polynomial, so that it depends on the characters alone and not on where tokens end: datatrove compares
    n-grams as joined strings.
    """

    def __init__(self, ids: Ids, lengths: npt.NDArray[np.int64], vocabulary: Vocabulary) -> None:
        self._ids = ids
        self._vocabulary = vocabulary
        self._bounds = np.concatenate([[0], np.cumsum(lengths)])
        starts = self._bounds[:-1]
        scaled = vocabulary.hashes(ids) * _powers(HASH_BASE, starts)
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(scaled, dtype=np.uint64)])
        self._unscale = _powers(_INVERSE_BASE, starts)
        self._text: str | None = None

    def repeated_characters(self, n: int) -> int:
        """Count characters of n-grams seen before, going on behind an n-gram when it is one, else at the next token."""
        count = self._ids.size - n + 1
        if count < 2:
            return 0
        hashes = (self._sums[n:] - self._sums[:-n]) * self._unscale[:count]
        order = np.argsort(hashes)
        equal = hashes[order[1:]] == hashes[order[:-1]]
        if not equal.any():
            return 0
        # Only n-grams with a possible twin matter, each compared with the first one that was not jumped over.
        shared = np.zeros(count, np.bool_)
        shared[order[1:][equal]] = True
        shared[order[:-1][equal]] = True
        positions = np.flatnonzero(shared)
        return self._walk(n, positions, hashes[positions])

    def _walk(self, n: int, positions: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]) -> int:
        seen: dict[int, set[str]] = {}
        starts = self._bounds[positions].tolist()
        ends = self._bounds[positions + n].tolist()
        characters = free = 0
        for position, start, end, key in zip(positions.tolist(), starts, ends, hashes.tolist(), strict=True):
            if position < free:
                continue
            n_gram = self._string[start:end]
            among = seen.setdefault(key, set())
            if n_gram in among:
                characters += end - start
                free = position + n
            else:
                among.add(n_gram)
        return characters

    @property
    def _string(self) -> str:
        if self._text is None:
            self._text = "".join(map(self._vocabulary.strings.__getitem__, self._ids.tolist()))
        return self._text


def _powers(base: int, exponents: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return base^exponent modulo 2^64 for exponents below 2^63, from two small tables instead of one long one."""
    if not exponents.size:
        return np.zeros(0, np.uint64)
    low = _table(base, 1 << _POWER_BITS)
    high = _table(pow(base, 1 << _POWER_BITS, 1 << 64), (int(exponents[-1]) >> _POWER_BITS) + 1)
    powers: npt.NDArray[np.uint64] = low[exponents & ((1 << _POWER_BITS) - 1)] * high[exponents >> _POWER_BITS]
    return powers


def _table(base: int, size: int) -> npt.NDArray[np.uint64]:
    factors = np.full(size, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
