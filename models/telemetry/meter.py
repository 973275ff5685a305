"""How fast training is, how much of the time it waits for data, and how much memory it takes."""

from dataclasses import dataclass

from infra.peak_memory import own_peak_bytes


@dataclass(frozen=True)
class Rate:
    """What a stretch of steps came to."""

    tokens_per_second: float
    step_seconds: float
    data_share: float
    """Share of the time that went into waiting for data."""


class Meter:
    """Tokens a second over the steps of this process, without validation and checkpoints."""

    def __init__(self) -> None:
        self.seconds = self.data_seconds = 0.0
        self.tokens = self.steps = self.skipped = 0
        self._first = True
        self._mark = (0.0, 0.0, 0, 0)

    def step(self, *, seconds: float, data_seconds: float, tokens: int) -> None:
        """Count one step; the first one warms up and is left out."""
        if self._first:
            self._first = False
            return
        self.seconds += seconds
        self.data_seconds += data_seconds
        self.tokens += tokens
        self.steps += 1

    @property
    def tokens_per_second(self) -> float | None:
        """Training throughput of all steps so far; None before the second step."""
        return self.tokens / self.seconds if self.seconds else None

    def since_last(self) -> Rate | None:
        """Return the rate since the last call; None where no step was counted."""
        seconds, waited, tokens, steps = (
            now - before
            for now, before in zip(
                (self.seconds, self.data_seconds, self.tokens, self.steps), self._mark, strict=True
            )
        )  # fmt: skip
        if not steps:
            return None
        self._mark = (self.seconds, self.data_seconds, self.tokens, self.steps)
        return Rate(tokens / seconds, seconds / steps, waited / seconds)


class TimeLeft:
    """How long a run still takes, by the clock since its first step in this process: with validation and all."""

    def __init__(self) -> None:
        self._began: tuple[int, float] | None = None
        self._last = 0

    def after(self, done: int, total: int, now: float) -> dict[str, float]:
        """Return the seconds left after so many steps at a time, in seconds, by name; nothing where they are unknown.

        A run that was rolled back is measured anew.
        """
        if done < self._last:
            self._began = None
        self._last = done
        if self._began is None and done:  # the first step warms up
            self._began = (done, now)
        if self._began is None or done == self._began[0]:
            return {}
        first, began = self._began
        return {"seconds_left": round((now - began) / (done - first) * (total - done), 1)}


def memory() -> dict[str, int]:
    """Return the most memory that this process has taken so far, in bytes, by where."""
    import torch

    found = {"memory_bytes": own_peak_bytes()}
    if torch.cuda.is_available():
        found["gpu_allocated_bytes"] = torch.cuda.max_memory_allocated()
        found["gpu_reserved_bytes"] = torch.cuda.max_memory_reserved()
    return found
