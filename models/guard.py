"""The guard: which steps are skipped, and when a run goes back to before a spike.

Every rank sees the same numbers and decides alike.  All that it remembers is in the checkpoints, so a run that was
killed decides what an undisturbed one does.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from models.config.guard import GuardConfig


@dataclass(frozen=True)
class Rollback:
    """Where a run goes back to: the checkpoint of `step`; and how many batches it then passes over."""

    step: int
    skip: int


class Guard:
    """Judges each step before its update is applied.

    `cfg` None lets every finite step pass.  Values of steps that were skipped enter the window as well (as in
    OLMo-core), so that a lasting change of level is accepted after a while; whether the loss *stays* high is measured
    against the threshold at the beginning of the spike.
    """

    def __init__(self, cfg: GuardConfig | None) -> None:
        self.cfg = cfg
        window = cfg.window if cfg else 0
        self._losses, self._norms = deque[float](maxlen=window), deque[float](maxlen=window)
        self._high: list[int] = []
        self._threshold = math.inf
        self.spikes = self.skipped_batches = self.rollbacks = 0

    def batch_of(self, step: int) -> int:
        """Return which batch of the training order a step reads: later ones once some were passed over."""
        return step + self.skipped_batches

    def is_outlier(self, loss: float, norm: float | None) -> bool:
        """Tell whether a step with this loss and gradient norm leaves the usual; a norm that is unknown does not."""
        if self.cfg is None or not math.isfinite(loss):
            return False
        return loss > self._limit(self._losses) or (norm is not None and norm > self._limit(self._norms))

    def _limit(self, values: deque[float]) -> float:
        assert self.cfg is not None
        if len(values) < max(2, self.cfg.window // 2):
            return math.inf
        return fmean(values) + self.cfg.sigmas * pstdev(values)

    def note(self, step: int, loss: float, norm: float | None, *, applied: bool) -> Rollback | None:
        """Remember a finished step, and return where to go back to if the loss has stayed high for too long.

        `norm` is None where the loss or the gradient was not finite.
        """
        if self.cfg is None:
            return None
        finite = norm is not None and math.isfinite(loss)
        self.spikes += finite and not applied
        if not self._high:
            self._threshold = self._limit(self._losses)
        high = not finite or loss > self._threshold
        self._high = [*self._high, step] if high else []
        if finite:
            assert norm is not None
            self._losses.append(loss)
            self._norms.append(norm)
        rollback = self.cfg.rollback
        if rollback is None or len(self._high) < rollback.patience:
            return None
        back = max(0, self._high[0] - 1 - rollback.margin) // rollback.every * rollback.every
        return Rollback(back, max(rollback.skip_batches, step - back)) if back else None

    def rolled_back(self, rollback: Rollback, before: "Guard") -> range:
        """Take up after the checkpoint's state was restored; return which batches are passed over that it would read.

        Those that `before` had passed over stay so, whether or not the checkpoint is older: else a second spike would
        lead back to the first one.
        """
        first = self.batch_of(rollback.step)
        self.skipped_batches = before.skipped_batches + rollback.skip
        self.rollbacks, self.spikes = before.rollbacks + 1, before.spikes
        return range(first, self.batch_of(rollback.step))

    def forget(self) -> None:
        """Begin a new window: the data has changed, and with it what is usual.

        Batches and sequences that grow by warm-up only lower losses and norms, which is never judged.
        """
        self._losses.clear()
        self._norms.clear()
        self._high, self._threshold = [], math.inf

    def state(self) -> dict[str, Any]:
        """Return all that it remembers, as JSON values."""
        return {
            "losses": list(self._losses),
            "norms": list(self._norms),
            "high": self._high,
            "threshold": self._threshold if math.isfinite(self._threshold) else None,
            "spikes": self.spikes,
            "skipped_batches": self.skipped_batches,
            "rollbacks": self.rollbacks,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` returned."""
        self._losses.clear()
        self._norms.clear()
        self._losses.extend(state["losses"])
        self._norms.extend(state["norms"])
        self._high = list(state["high"])
        self._threshold = math.inf if state["threshold"] is None else state["threshold"]
        self.spikes, self.rollbacks = state["spikes"], state["rollbacks"]
        self.skipped_batches = state["skipped_batches"]
