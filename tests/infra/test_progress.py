"""How far a step is, in Prefect: shown while it runs, and never in its way."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from infra import progress as module
from infra.execution import Progress
from infra.progress import PrefectProgress, table


class Api:
    """Stands where Prefect's client is: keeps what it is given, or never answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.answers = threading.Event()
        self.answers.set()
        self.broken, self.failed = False, False
        for name in ("create_progress_artifact", "update_progress_artifact", "create_markdown_artifact"):
            monkeypatch.setattr(f"prefect.artifacts.{name}", self._named(name))

    def _named(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> str:
            self.answers.wait(30)
            if self.broken:
                self.failed = True
                raise ConnectionError("the API cannot be reached")
            self.calls.append((name, kwargs.get("description")))
            return "id"

        return call


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Stays in Prefect's place until nobody asks any more: the real one would start a server for this process."""
    monkeypatch.setattr(module, "SECONDS", 0.05)
    monkeypatch.setattr(module, "_CLOSE_SECONDS", 60)
    api = Api(monkeypatch)
    yield api
    api.answers.set()
    for thread in threading.enumerate():
        if thread.name.startswith("progress of "):
            thread.join()


def at(done: int, **latest: float) -> Progress:
    return Progress("pretrain", done, 1000, "steps", latest)


def test_the_first_and_the_last_state_are_shown_with_the_loss(api: Api) -> None:
    shown = PrefectProgress("pretrain")
    shown.update(at(10, loss=3.25, tokens_per_second=41_000, seconds_left=90.2))
    while not api.calls:
        time.sleep(0.01)
    shown.update(at(1000, loss=1.5))
    shown.close()
    assert api.calls[0] == ("create_progress_artifact", "10 of 1,000 steps, loss 3.25, 41,000 tokens/s, 0:01:30 left")
    assert api.calls[-2:] == [
        ("update_progress_artifact", "1,000 of 1,000 steps, loss 1.5"),
        ("create_markdown_artifact", "1,000 of 1,000 steps, loss 1.5"),
    ]
    assert "| tokens per second | 41000 |" in table(at(10, loss=3.25, tokens_per_second=41_000))


def test_an_api_that_does_not_answer_holds_nothing_up(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLOSE_SECONDS", 0.1)
    api.answers.clear()
    shown = PrefectProgress("pretrain")
    began = time.monotonic()
    for done in range(100):
        shown.update(at(done, loss=1.0))
    shown.close()
    assert time.monotonic() - began < 25
    api.answers.set()


def test_an_api_that_cannot_be_reached_is_tried_again_later(api: Api) -> None:
    api.broken = True
    shown = PrefectProgress("pretrain")
    shown.update(at(1, loss=1.0))
    while not api.failed:
        time.sleep(0.01)
    api.broken = False
    shown.update(at(2, loss=0.5))
    shown.close()
    assert api.calls[0][0] == "create_progress_artifact"
