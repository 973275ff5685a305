"""Training in fp16: how the loss scale rises, falls and is resumed, and what of that a run shows."""

import json
from typing import Any

import pytest

from infra.launch import run_group


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    said, lines = tmp_path_factory.mktemp("fp16") / "said.json", list[str]()
    status = run_group(
        ["-m", "tests.models.fp16_program", str(said)], env={"OMP_NUM_THREADS": "1"}, on_line=lines.append
    )
    assert status == 0, "\n".join(lines)
    found: dict[str, Any] = json.loads(said.read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1", "3"])
def test_the_loss_scale_changes_no_step(stages: dict[str, Any], stage: str) -> None:
    found = stages[stage]
    steady, rising = ([loss for loss, _ in found[name]] for name in ("steady", "rising"))
    assert steady[-1] < steady[0] - 0.3
    assert rising == pytest.approx(steady, abs=2e-3)
    norms = [norm for _, norm in found["rising"]]
    assert norms == pytest.approx([norm for _, norm in found["steady"]], rel=1e-2)
    assert found["risen to"] == 64 * 2**7  # from the second step on, after each


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1", "3"])
def test_a_resumed_run_goes_on_with_the_loss_scale(stages: dict[str, Any], stage: str) -> None:
    undisturbed, resumed = stages[stage]["after"]
    assert resumed == undisturbed
    assert stages[stage]["scales"] == [64 * 2**8] * 2


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["1", "3"])
def test_overflows_lower_the_scale_and_count_as_bad_only_where_it_is_lowest(stages: dict[str, Any], stage: str) -> None:
    found = stages[stage]
    losses, norms = zip(*found["overflown"], strict=True)
    assert norms == (None,) * 4
    assert len(set(losses)) == 1  # nothing was changed
    assert found["bad"] == 0
    assert found["fallen to"] == 2**37  # the first is borne, then it halves
    assert found["lowest"] == [None] * 3
    assert found["lowest bad"] == 3
