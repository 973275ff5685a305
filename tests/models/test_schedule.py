"""The learning rate over the steps: shapes that test_config does not go through."""

import math

import pytest

from models.config import ScheduleConfig
from models.schedule import learning_rate_fraction


def rates(steps: int = 100, **changes: object) -> list[float]:
    cfg = ScheduleConfig.model_validate({"warmup_steps": 10, **changes})
    return [learning_rate_fraction(cfg, step=step, steps=steps) for step in range(steps)]


@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_inverse_square_root_falls_from_the_peak_whatever_the_end(warmup: int) -> None:
    found = rates(kind="inverse_sqrt", warmup_steps=warmup)
    assert max(found) == 1.0
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    assert found[39] == pytest.approx(math.sqrt(max(1, warmup) / 40))
    assert found == rates(kind="inverse_sqrt", warmup_steps=warmup, steps=200)[:100]


def test_a_cooldown_by_the_root_falls_fast_at_first_and_ends_where_a_line_does() -> None:
    line = rates(kind="wsd", final_fraction=0.1)
    root = rates(kind="wsd", final_fraction=0.1, decay_shape="one_minus_sqrt")
    assert root[:61] == line[:61]
    assert set(root[10:60]) == {1.0}
    assert all(low < high for low, high in zip(root[61:], line[61:], strict=True))
    assert root[60:] == sorted(root[60:], reverse=True)
    assert root[80] == pytest.approx(0.1 + 0.9 * (1 - math.sqrt(0.5)))
    assert 0.1 <= root[99] <= line[99]
