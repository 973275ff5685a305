"""Which GPUs ranks take, as far as that shows without any."""

import base64
import json
from typing import Any

import pytest

from infra.launch.group import Node, local_command


def devices(ranks: list[int], index: int = 0) -> Any:
    """Return what DeepSpeed's launcher is told of the GPUs of a machine, to which it sets CUDA_VISIBLE_DEVICES."""
    command = local_command(["-c", ""], node=Node(ranks, index=index), launcher="deepspeed")
    (told,) = [word.partition("=")[2] for word in command if word.startswith("--world_info=")]
    return json.loads(base64.urlsafe_b64decode(told))[f"node-{index}"]


@pytest.mark.parametrize(
    ("visible", "taken"),
    [
        (None, [0, 1]),
        ("6,3,5", ["6", "3"]),
        ("GPU-8f2c,GPU-51aa", ["GPU-8f2c", "GPU-51aa"]),
        ("7", ["7", "-1"]),  # the others were kept back
        ("", ["-1", "-1"]),
    ],
)
def test_ranks_take_the_gpus_that_their_user_lets_them_see(
    visible: str | None, taken: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices([2]) == taken
    assert devices([1, 2], index=1) == taken
