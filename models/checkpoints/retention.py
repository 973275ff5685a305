"""Which checkpoints a run must make, and which of them stay."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Retention:
    """Which complete checkpoints stay when a new one is there."""

    newest: int
    """How many of the newest ones."""
    every: int | None = None
    """Those of multiples of so many steps are permanent: they stay when the run is over too."""
    steps: Collection[int] = ()
    """Those of these steps are permanent as well."""
    anchors_every: int | None = None
    """The newest two at multiples of so many steps stay: what a spike of the loss may be rolled back to."""

    def permanent(self, step: int) -> bool:
        """Tell whether the checkpoint of a step is permanent."""
        return step in self.steps or (self.every is not None and step % self.every == 0)

    def due(self, step: int) -> bool:
        """Tell whether a checkpoint must be made at a step, however long ago the last one was made."""
        return self.permanent(step) or (self.anchors_every is not None and step % self.anchors_every == 0)

    def kept(self, steps: Sequence[int]) -> set[int]:
        """Return which of some steps' checkpoints stay."""
        ordered = sorted(steps)
        anchors = [step for step in ordered if self.anchors_every is not None and step % self.anchors_every == 0]
        return {*ordered[-self.newest :], *anchors[-2:], *(step for step in ordered if self.permanent(step))}
