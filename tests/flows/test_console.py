"""What a person sees of a run that goes on where nothing can be drawn, as in the log of a job."""

import pytest

from flows import console as module
from flows.console import ConsoleObserver
from infra.errors import PreemptedError, UserError, WorkerDiedError, reason, told_to_stop
from infra.execution import Progress, StepRecord


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


def test_a_step_that_was_told_to_stop_has_not_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with ConsoleObserver() as shown:
        shown.finished(StepRecord("pretrain", "failed", 2.5, stopped=True))
        shown.finished(StepRecord("pretrain", "failed", 2.5))
    assert [line.split() for line in capsys.readouterr().err.splitlines()] == [
        ["pretrain", "stopped", "2.5", "s"],
        ["pretrain", "failed", "2.5", "s"],
    ]


def test_a_signal_that_prefect_takes_for_its_own_stops_a_run_and_is_no_failure() -> None:
    from prefect.exceptions import TerminationSignal

    for told in (TerminationSignal(signal=15), KeyboardInterrupt()):
        assert told_to_stop(told)
        assert reason(told) == "interrupted"
    assert told_to_stop(PreemptedError("saved"))
    assert not any(told_to_stop(each) for each in (UserError("x"), WorkerDiedError("x"), SystemExit(1)))
