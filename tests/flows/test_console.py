"""What a person sees of a run that goes on where nothing can be drawn, as in the log of a job."""

import pytest

from flows import console as module
from flows.console import ConsoleObserver
from infra.execution import Progress


def test_a_line_now_and_then_says_how_far_training_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    latest = {"loss": 2.3456, "tokens_per_second": 41_000.0, "seconds_left": 3725.2, "tokens": 5}
    with ConsoleObserver() as shown:
        shown.progress(Progress("pretrain", 1200, 5000, "steps", latest))
        shown.progress(Progress("extract", 3, 10, "shards"))
        monkeypatch.setattr(module, "LINE_SECONDS", 60.0)
        shown.progress(Progress("pretrain", 1300, 5000, "steps", latest))
    assert capsys.readouterr().err.splitlines() == [
        "pretrain       1,200 of 5,000 steps, loss 2.346, 41,000 tokens/s, 1:02:05 left"
    ]
