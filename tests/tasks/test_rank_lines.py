"""What becomes of the lines that the ranks of a training write."""

import logging
from pathlib import Path

import pytest

from tasks.pretrain.supervision import Lines


def test_what_the_first_rank_warns_of_and_where_it_goes_on_is_said_as_it_happens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps: list[int] = []
    lines = Lines(tmp_path / "ranks.log", lambda done, *_rest: steps.append(done))
    at = "2026-11-21 21:01:45,165"
    written = [
        f"{at} INFO rank 0: training in fp32 because the recipe says so",
        f"{at} WARNING rank 0: checkpoint step-00000036 is damaged and passed over: sha256 differs",
        f"{at} WARNING rank 1: checkpoint step-00000036 is damaged and passed over: sha256 differs",
        f"{at} INFO rank 0: resumed after step 35 of 150",
        "[2026-11-21] [WARNING] a library's",
    ]
    with caplog.at_level(logging.INFO, logger="tasks.pretrain"):
        for line in written:
            assert not lines.take(line)
        assert lines.take('@progress {"done": 36, "total": 150, "latest": {}}')
    lines.close()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "pretrain: checkpoint step-00000036 is damaged and passed over: sha256 differs"),
        ("INFO", "pretrain: resumed after step 35 of 150"),
    ]
    assert steps == [36]
    assert (tmp_path / "ranks.log").read_text().splitlines() == written
