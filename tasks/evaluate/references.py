"""Reference lines: what simpler things need for the same held-out bytes, so that a number can be called good or bad.

All are in bits a byte.  They differ in what they have seen, which `saw` says in the output: a compressor starts cold
and adapts to the held-out text itself, so it is flattered by long and repetitive text and held back by short ones; the
unigram line knows the training text, but no order of tokens.
"""

import lzma
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

GZIP_WINDOW = 31
"""zlib's 15 bits of window plus 16, which asks for a gzip header (its time stamp is zero)."""
_READ = 1 << 22


def gzip_bits_per_byte(texts: Iterable[str]) -> float:
    """Return what `gzip -9` makes of the concatenated texts, headers included; streams, in constant memory."""
    packer = zlib.compressobj(9, zlib.DEFLATED, GZIP_WINDOW)
    raw = packed = 0
    for text in texts:
        data = text.encode()
        raw += len(data)
        packed += len(packer.compress(data))
    return 8 * (packed + len(packer.flush())) / raw


def xz_bits_per_byte(texts: Iterable[str]) -> float:
    """Return what `xz -9` makes of the concatenated texts; streams, in at most 674 MiB (xz's own table for -9)."""
    packer = lzma.LZMACompressor(preset=9)
    raw = packed = 0
    for text in texts:
        data = text.encode()
        raw += len(data)
        packed += len(packer.compress(data))
    return 8 * (packed + len(packer.flush())) / raw


def count_tokens(paths: Iterable[Path], dtype: str, vocabulary: int) -> npt.NDArray[np.int64]:
    """Count each token of shards of raw little-endian integers, a piece at a time."""
    counts = np.zeros(vocabulary, dtype=np.int64)
    kind = np.dtype(dtype).newbyteorder("<")
    for path in paths:
        with path.open("rb") as stream:
            while piece := stream.read(_READ):
                counts += np.bincount(np.frombuffer(piece, dtype=kind), minlength=vocabulary)
    return counts


def unigram_nats(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return -ln p of every token under the training counts plus one (Laplace's rule: no token is impossible)."""
    smoothed = counts.astype(np.float64) + 1
    nats: npt.NDArray[np.float64] = np.log(smoothed.sum()) - np.log(smoothed)
    return nats


def total_nats(nats: npt.NDArray[np.float64], tokens: npt.NDArray[np.integer[Any]]) -> float:
    """Sum the -ln p of a text's tokens."""
    return float(nats[tokens].sum())
