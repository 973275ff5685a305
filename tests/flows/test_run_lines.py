"""What a run prints when it is over."""

import pytest

from flows.commands.runs import held_out_cost


@pytest.mark.parametrize(
    ("bits", "evaluated", "line"),
    [
        (3.845, {"bits_per_byte": 3.8561, "nats_per_token": 2.6}, "3.856 bits a byte of held-out text"),
        (None, {"nats_per_token": 7.2534, "missing_tokens": 722}, "7.253 nats a missing token of held-out text"),
        (3.845, None, "3.845 bits a byte on validation"),
        (None, None, "5.622 nats a target on validation"),
    ],
)
def test_the_cost_of_held_out_text_is_that_of_the_report(
    bits: float | None, evaluated: dict[str, float] | None, line: str
) -> None:
    assert held_out_cost({"validation_bits_per_byte": bits, "validation_loss": 5.622}, evaluated) == line
