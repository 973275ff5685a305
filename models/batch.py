"""What a network is given: windows of text as they are read, and the batch that an objective makes of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

IGNORE = -100
"""Target of a position whose loss does not count."""

PADDING = -1
"""In `Batch.documents`: the position is of no document, and none that is may attend to it."""


class Windows(NamedTuple):
    """Some stretches of the token stream, all arrays of shape (B, W)."""

    tokens: NDArray[np.int64]
    documents: NDArray[np.int64] | None
    """Number in its row of the document that each token is of, ascending; PADDING for what fills up; None where nobody
    asked."""
    unled: NDArray[np.bool_] | None = None
    """Whether what stands before a token is not what comes before it in its document, which was cut there; None where
    no document is cut."""


class Batch(NamedTuple):
    """Some sequences, all arrays of shape (B, T)."""

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    """What is to be guessed at each position, or IGNORE: the token after each input, the token that the input hides, or
    what a decoder writes."""
    documents: NDArray[np.int64] | None
    """Number in its row of the document that each *target* is of, ascending; PADDING where it is of none; None where
    nobody asked. A position may attend to those with the same number (of a decoder, to those before it): then each
    document is predicted as if it stood alone, the first of its tokens from the end token before it."""
    source: NDArray[np.int64] | None = None
    """What an encoder reads where inputs and targets are a decoder's: (B, S)."""
    source_documents: NDArray[np.int64] | None = None
    """As `documents`, of the source: (B, S); a decoder's position may attend to those with its own number."""

    @property
    def scored(self) -> int:
        """How many targets count."""
        return int((self.targets != IGNORE).sum())

    def beginning(self, length: int) -> "Batch":
        """Return the first positions of each sequence."""
        documents = None if self.documents is None else self.documents[:, :length]
        return self._replace(inputs=self.inputs[:, :length], targets=self.targets[:, :length], documents=documents)

    def positions(self) -> NDArray[np.int64]:
        """Return how many positions of the same document come before each, for positions that begin anew with it."""
        assert self.documents is not None
        place = np.broadcast_to(np.arange(self.documents.shape[1]), self.documents.shape)
        begins = np.diff(self.documents, axis=1, prepend=np.iinfo(np.int64).min) != 0
        return place - np.maximum.accumulate(np.where(begins, place, 0), axis=1)
