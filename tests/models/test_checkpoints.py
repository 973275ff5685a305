"""Only complete, undamaged checkpoints are loaded; the newest ones are kept."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from infra.errors import DataError, UserError
from infra.storage import Storage
from models.checkpoints import Checkpoint, Checkpoints, Retention, check_resumable
from models.checkpoints.snapshot import Snapshot


def make(storage: Storage, scratch: Path, newest: int = 2, *, mark: str = "life1", **other: Any) -> Checkpoints:
    """Return the checkpoints of a run as rank 0 sees them."""
    names = ("every", "steps", "anchors_every")
    retention = Retention(newest, **{name: other.pop(name) for name in names if name in other})
    return Checkpoints(storage, scratch, retention, mark=mark, **other)


def publish(checkpoints: Checkpoints, step: int, file: str = "engine/weights.pt") -> None:
    """Have a checkpoint written whose one file names the step."""

    def write(folder: Path) -> None:
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(f"weights of {step}")

    checkpoints.publish(step, write, {"ranks": 1})


def save(checkpoints: Checkpoints, step: int) -> None:
    """Publish a checkpoint and wait until it is complete."""
    publish(checkpoints, step)
    checkpoints.wait()


def loaded(checkpoints: Checkpoints) -> tuple[int, str] | None:
    """Return what a resumed run would load."""
    found = checkpoints.newest()
    if found is None:
        return None
    return found.step, (checkpoints.fetched(found.name) / "engine" / "weights.pt").read_text()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A local folder, and a bucket."""
    if request.param == "file":
        return Storage(str(tmp_path / "partial"))
    return Storage(f"{request.getfixturevalue('s3_bucket')}/partial")


def test_of_two_checkpoints_of_a_step_that_of_the_later_life_stays_unless_the_other_is_permanent(
    tmp_path: Path,
) -> None:
    storage = Storage(str(tmp_path / "partial"))
    for mark in ("life2", "life1"):  # marks are drawn: the later one need not be the higher
        save(make(storage, tmp_path / "scratch", mark=mark), 10)
    assert make(storage, tmp_path / "scratch").complete() == ["checkpoints/step-00000010-life1"]
    save(make(storage, tmp_path / "scratch", mark="life3", every=10), 10)
    save(make(storage, tmp_path / "scratch", mark="life4"), 10)
    assert make(storage, tmp_path / "scratch").complete() == ["kept/step-00000010-life3"]


def test_the_newest_complete_checkpoint_is_loaded_and_older_ones_are_removed(storage: Storage, tmp_path: Path) -> None:
    checkpoints = make(storage, tmp_path / "scratch")
    assert loaded(checkpoints) is None
    for step in (10, 20, 30):
        save(checkpoints, step)
    assert loaded(checkpoints) == (30, "weights of 30")
    assert storage.names("checkpoints") == ["newest.json", "step-00000020-life1", "step-00000030-life1"]
    storage.delete("checkpoints/step-00000030-life1/complete.json")  # as if killed before the marker
    assert loaded(checkpoints) == (20, "weights of 20")
    again = make(storage, tmp_path / "scratch", mark="life2")
    save(again, 30)
    assert storage.names("checkpoints") == ["newest.json", "step-00000020-life1", "step-00000030-life2"]


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    storage: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = make(storage, tmp_path / "scratch")
    save(checkpoints, 10)
    save(checkpoints, 20)
    storage.write_bytes("checkpoints/step-00000020-life1/engine/weights.pt", b"weights of 2?")
    with caplog.at_level(logging.WARNING):
        assert loaded(checkpoints) == (10, "weights of 10")
    assert "step-00000020-life1 is damaged" in caplog.text
    storage.write_bytes("checkpoints/step-00000010-life1/complete.json", b"{")
    with pytest.raises(DataError, match="all 2 checkpoints"):
        checkpoints.newest()
    storage.delete("checkpoints/step-00000010-life1", recursive=True)
    storage.delete("checkpoints/step-00000020-life1", recursive=True)
    with pytest.raises(DataError, match="the checkpoint of step 20 was complete and is no longer in"):
        checkpoints.newest()


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "partial"))
    checkpoints = make(storage, tmp_path / "scratch")
    save(checkpoints, 10)
    save(checkpoints, 20)
    marker = "checkpoints/step-00000020-life1/complete.json"
    storage.write_bytes(marker, storage.read_bytes(marker).replace(b'"format": 3', b'"format": 2'))
    with pytest.raises(UserError, match=r"step-00000020-life1 was written by another version .*\(format 2, here 3\)"):
        checkpoints.newest()


def test_a_failed_upload_reaches_the_training_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.checkpoints.store._RETRY_SECONDS", (0.0,))
    blocked = tmp_path / "partial"
    blocked.write_text("a file where the folder should be")
    checkpoints = make(Storage(str(blocked)), tmp_path / "scratch")
    with pytest.raises(OSError, match="partial"):
        save(checkpoints, 10)


def test_permanent_ones_and_those_before_a_spike_stay(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "partial"))
    checkpoints = make(storage, tmp_path / "scratch", 1, every=40, steps=[10], anchors_every=20)
    for step in range(10, 101, 10):
        save(checkpoints, step)
    assert storage.names("kept") == ["step-00000010-life1", "step-00000040-life1", "step-00000080-life1"]
    assert storage.names("checkpoints") == ["newest.json", "step-00000100-life1"]
    save(checkpoints, 110)
    assert storage.names("checkpoints") == ["newest.json", "step-00000100-life1", "step-00000110-life1"]
    checkpoints.remove_after(100)
    assert loaded(checkpoints) == (100, "weights of 100")


def test_what_was_permanent_stays_where_a_later_life_is_told_to_keep_less(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "partial"))
    save(make(storage, tmp_path / "scratch", 1, every=10), 10)
    later = make(storage, tmp_path / "scratch", 1, mark="life2")
    save(later, 20)
    save(later, 30)
    assert storage.names("kept") == ["step-00000010-life1"]
    assert storage.names("checkpoints") == ["newest.json", "step-00000030-life2"]


def test_copies_that_were_begun_on_a_gpu_have_ended_when_a_file_was_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.synchronize", lambda: waited.append(1))
    Snapshot().add(Path("state/average.pt"), {"average": torch.zeros(2)})
    assert waited, "the average is noted after DeepSpeed's files"


def test_the_marker_waits_for_the_files_of_ranks_on_other_machines(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "partial"))
    first = make(storage, tmp_path / "here", ranks=2)
    second = make(storage, tmp_path / "there", ranks=2, rank=1, node=1)
    publish(first, 10)
    eventually(lambda: "rank-00000.json" in storage.names("checkpoints/step-00000010-life1"))
    time.sleep(0.2)
    assert first.newest() is None
    assert storage.names("checkpoints/step-00000010-life1") == ["engine", "rank-00000.json"]
    publish(second, 10, "engine/optimizer-1.pt")
    second.wait()
    first.wait()
    found = second.newest()
    assert found is not None
    assert sorted(found.files) == ["engine/optimizer-1.pt", "engine/weights.pt"]
    for file in found.files:
        assert (tmp_path / "there/resume/node-00001" / found.name / file).read_text() == "weights of 10"
    assert not list((tmp_path / "here" / "staging").rglob("*.pt"))


def test_one_checkpoint_is_under_way_at_most_and_the_caller_need_not_wait_for_it(tmp_path: Path) -> None:
    checkpoints = make(Storage(str(tmp_path / "partial")), tmp_path / "scratch")
    go, begun = threading.Event(), list[int]()

    def slow(step: int) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            begun.append(step)
            assert go.wait(60)
            (folder / "weights.pt").write_text("")

        return write

    checkpoints.publish(10, slow(10), {})
    second = threading.Thread(target=checkpoints.publish, args=(20, slow(20), {}))
    second.start()
    eventually(lambda: bool(begun))
    time.sleep(0.2)
    assert begun == [10]
    go.set()
    second.join()
    checkpoints.wait()
    assert begun == [10, 20]
    assert len(checkpoints.complete()) == 2


ABOUT = {
    "config_digest": "c" * 64,
    "tokenizer_digest": "t" * 64,
    "optimizer": "adamw",
    "ranks": 2,
    "zero_stage": 1,
    "tensor_parallel": 1,
    "pipeline_stages": 1,
    "offload_optimizer": "none",
    "offload_parameters": "none",
    "precision": "fp32",
    "threads": 1,
    "torch": "2.13.0",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config_digest": "d" * 64}, "belongs to another run"),
        ({"tokenizer_digest": "u" * 64}, "belongs to another run"),
        ({"zero_stage": 0}, "written by ranks=2, zero_stage=1 and cannot be cut anew for ranks=2, zero_stage=0"),
        ({"zero_stage": 3}, "of stage 3 and of stages 1 and 2 are not laid out alike"),
        ({"tensor_parallel": 2}, "do not reach from tensor_parallel=1 to tensor_parallel=2"),
        ({"pipeline_stages": 2}, "do not reach from pipeline_stages=1"),
        ({"precision": "bf16_autocast"}, "trained in fp32"),
        ({"offload_optimizer": "nvme"}, "what is offloaded to nvme cannot go on from one"),
        ({"offload_parameters": "nvme"}, "what is offloaded to nvme cannot go on from one"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_never_ignored(change: dict[str, object], said: str) -> None:
    check_resumable(found(ABOUT), ABOUT)
    with pytest.raises(UserError, match=said):
        check_resumable(found(ABOUT), {**ABOUT, **change})


def found(about: dict[str, object]) -> Checkpoint:
    return Checkpoint(name="checkpoints/step-00000005-life1", step=5, about=about, files={})


def test_another_number_of_ranks_can_go_on_where_deepspeed_can_convert() -> None:
    whole = {**ABOUT, "zero_stage": 0}
    check_resumable(found(whole), {**whole, "ranks": 1})
    check_resumable(found(ABOUT), {**ABOUT, "ranks": 1})
    check_resumable(found(ABOUT), {**ABOUT, "zero_stage": 2})
    for kind in ("muon", "lamb", "lion"):
        check_resumable(found({**ABOUT, "optimizer": kind}), {**ABOUT, "optimizer": kind, "ranks": 4})
