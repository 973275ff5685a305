"""Only complete, undamaged checkpoints are loaded; the newest ones are kept."""

import logging
from pathlib import Path

import pytest

from infra.errors import DataError, UserError
from infra.storage import Storage
from models.checkpoints import Checkpoint, Checkpoints, check_resumable


def save(checkpoints: Checkpoints, step: int) -> None:
    """Stage and publish a checkpoint whose one file names the step."""
    staged = checkpoints.staging(step)
    (staged / "engine").mkdir(parents=True)
    (staged / "engine" / "weights.pt").write_text(f"weights of {step}")
    checkpoints.publish(step, {"ranks": 1})
    checkpoints.wait()


def loaded(checkpoints: Checkpoints) -> tuple[int, str] | None:
    """Return what a resumed run would load."""
    found = checkpoints.newest()
    return (found.step, (found.directory / "engine" / "weights.pt").read_text()) if found else None


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A local folder, and a bucket."""
    if request.param == "file":
        return Storage(str(tmp_path / "partial"))
    return Storage(f"{request.getfixturevalue('s3_bucket')}/partial")


def test_the_newest_complete_checkpoint_is_loaded_and_older_ones_are_removed(storage: Storage, tmp_path: Path) -> None:
    checkpoints = Checkpoints(storage, tmp_path / "scratch", keep=2)
    assert loaded(checkpoints) is None
    for step in (10, 20, 30):
        save(checkpoints, step)
    assert loaded(checkpoints) == (30, "weights of 30")
    assert storage.names("checkpoints") == ["step-00000020", "step-00000030"]
    storage.delete("checkpoints/step-00000030/complete.json")  # as if killed before the marker
    assert loaded(checkpoints) == (20, "weights of 20")


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    storage: Storage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(storage, tmp_path / "scratch", keep=2)
    save(checkpoints, 10)
    save(checkpoints, 20)
    storage.write_bytes("checkpoints/step-00000020/engine/weights.pt", b"weights of 2?")
    with caplog.at_level(logging.WARNING):
        assert loaded(checkpoints) == (10, "weights of 10")
    assert "step-00000020 is damaged" in caplog.text
    storage.write_bytes("checkpoints/step-00000010/complete.json", b"{")
    with pytest.raises(DataError, match="all 2 checkpoints"):
        checkpoints.newest()


def test_a_failed_upload_reaches_the_training_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.checkpoints._RETRY_SECONDS", (0.0,))
    blocked = tmp_path / "partial"
    blocked.write_text("a file where the folder should be")
    checkpoints = Checkpoints(Storage(str(blocked)), tmp_path / "scratch", keep=1)
    with pytest.raises(OSError, match="partial"):
        save(checkpoints, 10)


ABOUT = {
    "config_digest": "c" * 64,
    "tokenizer_digest": "t" * 64,
    "ranks": 2,
    "zero_stage": 1,
    "precision": "fp32",
    "threads": 1,
    "torch": "2.13.0",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config_digest": "d" * 64}, "belongs to another run"),
        ({"tokenizer_digest": "u" * 64}, "belongs to another run"),
        ({"ranks": 1}, "written by ranks=2 with zero_stage=1 and cannot be cut anew for ranks=1"),
        ({"zero_stage": 0}, "cannot be cut anew"),
        ({"precision": "bf16_autocast"}, "trained in fp32"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_never_ignored(change: dict[str, object], said: str) -> None:
    found = Checkpoint(step=5, directory=Path(), about=ABOUT)
    check_resumable(found, ABOUT)
    with pytest.raises(UserError, match=said):
        check_resumable(found, {**ABOUT, **change})


def test_whole_tensors_go_on_with_any_number_of_ranks() -> None:
    whole = {**ABOUT, "zero_stage": 0}
    check_resumable(Checkpoint(step=5, directory=Path(), about=whole), {**whole, "ranks": 1})
