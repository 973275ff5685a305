"""A run that is told to stop ends, whether the step could save what it had or had just finished."""

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Failed

from infra import preemption
from infra.errors import PreemptedError, WorkerDiedError
from infra.orchestration import PrefectRunner, make_task
from infra.settings import settings

STEP: Any = SimpleNamespace(name="pretrain", preemptible=True)


class Building:
    """A builder that answers with what it is given, one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def whole(self, *_: Any) -> Any:
        """Return the next answer, or raise it."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def whole(*answers: Any, step: Any = STEP) -> Any:
    builder: Any = Building(*answers)
    return PrefectRunner._whole(builder, step, None, {})


@pytest.mark.parametrize(("error", "again"), [(PreemptedError("saved"), False), (WorkerDiedError("killed"), True)])
def test_what_was_told_to_stop_is_no_failure_to_try_again(error: Exception, again: bool) -> None:
    task: Any = make_task("pretrain", lambda: None, settings())
    assert task.retry_condition_fn(task, None, Failed(message=str(error), data=error)) is again


def test_work_alone_that_was_told_to_stop_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "told", lambda: False)
    assert whole(PreemptedError("saved"), ("artifact", True)) == ("artifact", True)


def test_a_run_that_is_told_to_stop_goes_no_further_where_its_step_has_saved_or_just_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preemption, "told", lambda: True)
    with pytest.raises(PreemptedError, match="saved"):
        whole(PreemptedError("saved"), ("artifact", True))
    with pytest.raises(PreemptedError, match="pretrain: done, and told"):
        whole(("artifact", True))
    assert whole(("artifact", False)) == ("artifact", False), "nothing was asked of it"
    assert whole(("artifact", True), step=SimpleNamespace(name="pack", preemptible=False)) == ("artifact", True)
