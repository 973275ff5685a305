"""Random numbers that are a function of (seed, what for, row, place) alone, with every version of every library.

Each row of a run has its own splitmix64 (Steele et al. 2014), which gives its n-th number without those before it, so
that nothing depends on which rank draws, in which micro-batch, or after how many restarts.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_BITS: Final = np.uint64(11)
"""Low bits that a double has no room for."""


def uniform(seed: int, purpose: str, rows_B: NDArray[np.uint64], count: int) -> NDArray[np.float64]:
    """Return numbers in [0, 1), shape (B, count), each row's from its own generator."""
    key = hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        start_B = mixed(mixed(rows_B + np.frombuffer(key, dtype="<u8")[0]) + _STEP)
        drawn = mixed(start_B[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP)
    return (drawn >> _BITS).astype(np.float64) * 2.0**-53


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64 bits: the finaliser of splitmix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
