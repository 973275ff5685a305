"""The learning rate as a function of the step alone, so that a resumed run needs no scheduler state."""

import math

from models.config import ScheduleConfig


def learning_rate_fraction(cfg: ScheduleConfig, *, step: int, steps: int) -> float:
    """Return the learning rate of `step` (0-based, of `steps`) as a fraction of its peak."""
    if step < cfg.warmup_steps:
        return (step + 1) / cfg.warmup_steps
    if cfg.kind == "constant":
        return 1.0
    start = cfg.warmup_steps
    if cfg.kind == "inverse_sqrt":
        return math.sqrt(max(1, start) / max(1, step + 1))
    if cfg.kind == "wsd":
        start = max(start, steps - round(cfg.decay_fraction * steps))
        if step < start:
            return 1.0
    done = (step - start) / max(1, steps - start)
    if cfg.kind == "cosine":
        falling = 0.5 * (1 + math.cos(math.pi * done))
    elif cfg.kind == "wsd" and cfg.decay_shape == "one_minus_sqrt":
        falling = 1 - math.sqrt(done)
    else:
        falling = 1 - done
    return cfg.final_fraction + (1 - cfg.final_fraction) * falling
