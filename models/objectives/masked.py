"""Masked language modelling (BERT): tokens are hidden, drawn anew wherever in the run a window stands."""

import numpy as np
from numpy.typing import NDArray

from models.batch import IGNORE, PADDING, Batch, Windows
from models.config.objectives import MaskedConfig
from models.objectives.draws import uniform
from models.objectives.vocabulary import Vocabulary


class Masked:
    """Hides tokens of windows; which is a function of the seed and the number of each row alone."""

    ahead = 0
    uneven = True

    def __init__(self, cfg: MaskedConfig, vocabulary: Vocabulary, *, sequence_length: int, seed: int) -> None:
        assert vocabulary.mask is not None
        self.cfg, self.window = cfg, cfg.window(sequence_length)
        self._vocabulary, self._mask, self._seed = vocabulary, vocabulary.mask, seed
        self._ordinary = np.flatnonzero(~vocabulary.special)

    def batch(self, windows: Windows, rows_B: NDArray[np.uint64]) -> Batch:
        """Return windows with tokens hidden, and what they were as targets; special tokens and padding stay."""
        tokens_BT, documents_BT, _ = windows
        hidden_BT = self._hidden(tokens_BT, rows_B) & ~self._vocabulary.special[tokens_BT]
        if documents_BT is not None:
            hidden_BT &= documents_BT != PADDING
        length = tokens_BT.shape[1]
        shown_BT = uniform(self._seed, "shown", rows_B, length)
        masked, changed = self.cfg.mask_share, self.cfg.mask_share + self.cfg.random_share
        inputs_BT = np.where(hidden_BT & (shown_BT < masked), self._mask, tokens_BT)
        drawn_BT = hidden_BT & (shown_BT >= masked) & (shown_BT < changed)
        random = uniform(self._seed, "random", rows_B, length)[drawn_BT] * len(self._ordinary)
        inputs_BT[drawn_BT] = self._ordinary[random.astype(np.int64)]
        return Batch(inputs_BT, np.where(hidden_BT, tokens_BT, IGNORE), documents_BT)

    def _hidden(self, tokens_BT: NDArray[np.int64], rows_B: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Draw for each token, or for each word by its first token, whether it is hidden."""
        hidden_BT: NDArray[np.bool_] = uniform(self._seed, "hidden", rows_B, tokens_BT.shape[1]) < self.cfg.probability
        if self.cfg.whole_word:
            hidden_BT = np.take_along_axis(hidden_BT, self._vocabulary.words(tokens_BT), axis=1)
        return hidden_BT
