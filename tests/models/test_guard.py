"""Which steps the guard skips, where it goes back to, and that it decides the same after a restart."""

import json
import random

import pytest
from pydantic import ValidationError

from models.config import GuardConfig, RollbackConfig
from models.guard import Guard, Rollback

CFG = GuardConfig(rollback=RollbackConfig(every=100, margin=20, patience=8, skip_batches=50))


def usual(seed: int) -> tuple[float, float]:
    """Return loss and gradient norm of a step of a healthy run."""
    chooser = random.Random(seed)
    return chooser.gauss(3.0, 0.05), chooser.gauss(1.0, 0.1)


def follow(guard: Guard, steps: range, high: range = range(0)) -> dict[int, tuple[bool, Rollback | None]]:
    """Take steps, some of them with a high loss; return those that were skipped or asked to go back."""
    found = {}
    for step in steps:
        loss, norm = usual(step)
        loss += 2.0 if step in high else 0.0
        skipped = guard.is_outlier(loss, norm)
        rollback = guard.note(step, loss, norm, applied=not skipped)
        if skipped or rollback:
            found[step] = (skipped, rollback)
    return found


def test_a_healthy_run_is_left_alone_and_an_outlier_is_skipped() -> None:
    guard = Guard(CFG)
    assert follow(guard, range(1, 400)) == {}
    assert guard.is_outlier(3.5, 1.0)
    assert guard.is_outlier(3.0, 2.0)
    assert not guard.is_outlier(2.0, 0.1)  # as low as it likes
    assert not Guard(None).is_outlier(1e9, 1e9)


def test_nothing_is_judged_before_half_a_window_is_known() -> None:
    guard = Guard(CFG)
    assert follow(guard, range(1, 64)) == {}
    assert not guard.is_outlier(99.0, 99.0)
    follow(guard, range(64, 66))
    assert guard.is_outlier(99.0, 1.0)


def test_one_bad_batch_is_skipped_and_no_more() -> None:
    guard = Guard(CFG)
    assert follow(guard, range(1, 400), high=range(250, 251)) == {250: (True, None)}
    assert guard.spikes == 1


def test_a_loss_that_stays_high_goes_back_to_well_before_the_spike_and_past_its_data() -> None:
    guard = Guard(CFG)
    found = follow(guard, range(1, 400), high=range(310, 400))
    assert found[310] == (True, None)
    first = min(step for step, (_, rollback) in found.items() if rollback)
    assert first == 317, "after so many high steps in a row as its patience says"
    assert found[first][1] == Rollback(step=200, skip=117), "300 is not the margin of 20 steps before the spike"
    again = Guard(CFG)
    follow(again, range(1, 201))
    assert again.rolled_back(Rollback(200, 117), guard) == range(200, 317)
    assert again.batch_of(200) == 317, "the next batch is one that no step has read"
    assert again.rollbacks == 1


def test_a_second_spike_from_the_same_checkpoint_passes_over_the_data_of_both() -> None:
    anchor = Guard(CFG)
    follow(anchor, range(1, 201))
    first, second = Guard(CFG), Guard(CFG)
    for guard in (first, second):
        guard.restore(anchor.state())
    first.rolled_back(Rollback(200, 117), anchor)
    found = [rollback for _, rollback in follow(first, range(201, 260), high=range(230, 260)).values() if rollback]
    assert found[0] == Rollback(step=200, skip=50), "after step 237, which read batch 353"
    assert second.rolled_back(found[0], first) == range(200, 367)
    assert second.batch_of(200) == 367, "the next batch is one that no step has read"
    assert second.rollbacks == 2


def test_steps_that_are_not_finite_count_as_high() -> None:
    guard = Guard(CFG)
    follow(guard, range(1, 150))
    found = [guard.note(step, float("nan"), None, applied=False) for step in range(150, 158)]
    assert found == [*[None] * 7, Rollback(step=100, skip=57)]


def test_there_is_nowhere_to_go_before_the_first_checkpoint() -> None:
    found = follow(Guard(CFG), range(1, 130), high=range(90, 130))
    assert found
    assert not any(rollback for _, rollback in found.values())


def test_after_a_restart_it_decides_what_it_would_have_decided() -> None:
    undisturbed, first = Guard(CFG), Guard(CFG)
    expected = follow(undisturbed, range(1, 330), high=range(310, 330))
    found = follow(first, range(1, 314), high=range(310, 330))
    second = Guard(CFG)
    second.restore(json.loads(json.dumps(first.state())))
    found |= follow(second, range(314, 330), high=range(310, 330))
    assert found == expected
    assert second.state() == undisturbed.state()


def test_what_is_usual_is_learnt_anew_where_the_data_changes() -> None:
    guard = Guard(CFG)
    follow(guard, range(1, 200))
    guard.forget()
    assert follow(guard, range(200, 300), high=range(200, 300)) == {}


def test_a_rollback_that_could_not_reach_before_a_spike_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"rollback\.every=60 must be at least margin \+ patience = 66"):
        RollbackConfig(every=60)
