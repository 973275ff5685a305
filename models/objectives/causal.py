"""Causal language modelling (GPT): each token is guessed from those before it."""

import numpy as np
from numpy.typing import NDArray

from models.batch import IGNORE, PADDING, Batch, Windows


class Causal:
    """Shifts windows by a token: those that lie anywhere have one more, those that were laid out are led by an end."""

    def __init__(self, *, end: int, sequence_length: int, packed: bool, documents: bool) -> None:
        self.window, self.ahead = sequence_length, 0 if packed else 1
        self.uneven = packed
        self._end, self._packed, self._documents = end, packed, documents

    def batch(self, windows: Windows, rows_B: NDArray[np.uint64]) -> Batch:
        """Return inputs and targets; what fills up a window, and what has nothing before it, is no target."""
        tokens_BT, documents_BT, unled_BT = windows
        if not self._packed:
            documents_BT = documents_BT[:, 1:] if self._documents and documents_BT is not None else None
            return Batch(tokens_BT[:, :-1], tokens_BT[:, 1:], documents_BT)
        inputs_BT = np.roll(tokens_BT, 1, axis=1)
        inputs_BT[:, 0] = self._end
        targets_BT = np.where(documents_BT == PADDING, IGNORE, tokens_BT)
        assert unled_BT is not None
        targets_BT[unled_BT] = IGNORE
        return Batch(inputs_BT, targets_BT, documents_BT if self._documents else None)
