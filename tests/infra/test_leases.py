import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.errors import LeaseLostError
from infra.leases import Lease, LeaseWatch
from infra.storage import Storage

SECONDS = 0.4


@pytest.fixture
def folder(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "lease"))


def _acquire(folder: Storage, watch: LeaseWatch | None = None, seconds: float = SECONDS) -> Lease | None:
    return Lease.try_acquire(folder, seconds, watch or LeaseWatch())


def test_one_holder_at_a_time_and_the_next_after_release(folder: Storage) -> None:
    first = _acquire(folder)
    assert first is not None
    assert first.epoch == 1
    assert _acquire(folder) is None
    first.release()
    second = _acquire(folder)
    assert second is not None
    assert second.epoch == 2
    second.release()


def test_a_holder_that_beats_keeps_its_lease_for_longer_than_a_lease_time(folder: Storage) -> None:
    seconds = 4.0  # a busy machine may hold up a beat for one
    holder = _acquire(folder, seconds=seconds)
    assert holder is not None
    watch = LeaseWatch()
    end = time.monotonic() + 1.5 * seconds
    while time.monotonic() < end:
        assert _acquire(folder, watch, seconds) is None
        time.sleep(0.05)
    holder.seal()
    holder.release()


def _elsewhere(folder: Storage, epoch: int = 1) -> None:
    """Make the holder of an epoch look as if it ran on another machine, where its death cannot be seen."""
    name = f"{epoch:06d}.json"
    folder.write_bytes(name, json.dumps({**json.loads(folder.read_bytes(name)), "machine": "elsewhere"}).encode())


def test_a_holder_that_stands_still_is_fenced_and_cannot_publish(folder: Storage) -> None:
    slow = _acquire(folder)
    assert slow is not None
    _elsewhere(folder)
    slow._stop.set()  # as if the process had been frozen: no beat any more
    watch = LeaseWatch()
    end = time.monotonic() + 60
    while (second := _acquire(folder, watch)) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert second.epoch == 2
    with pytest.raises(LeaseLostError):
        slow.seal()
    second.seal()


def test_a_holder_that_was_taken_over_does_not_release_the_lease_of_the_other(folder: Storage) -> None:
    slow = _acquire(folder)
    assert slow is not None
    slow._stop.set()
    folder.create("000002.json", b'{"machine": "elsewhere", "pid": 1, "started": "", "token": "other"}')
    slow.release()
    assert folder.names("") == ["000001.json", "000002.json"]


def test_a_holder_learns_that_it_was_taken_over(folder: Storage) -> None:
    first = _acquire(folder)
    assert first is not None
    folder.create("000002.json", b'{"machine": "elsewhere", "pid": 1, "started": "", "token": "other"}')
    assert first.lost.wait(60)


def test_sealing_and_taking_over_have_one_winner(folder: Storage) -> None:
    first = _acquire(folder)
    assert first is not None
    first.seal()
    assert _acquire(folder) is None  # the sealed epoch is still this process's own
    first.release()
    assert _acquire(folder) is not None


def test_the_lease_of_a_killed_process_is_taken_over_at_once(folder: Storage) -> None:
    code = (
        "import sys, time; from infra.leases import *; from infra.storage import Storage\n"
        f"lease = Lease.try_acquire(Storage({folder.url!r}), 3600, LeaseWatch()); print(lease.epoch, flush=True)\n"
        "time.sleep(3600)"
    )
    root = Path(__file__).resolve().parents[2]
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    assert Lease.try_acquire(folder, 3600, LeaseWatch()) is None
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    taken = Lease.try_acquire(folder, 3600, LeaseWatch())
    assert taken is not None
    assert taken.epoch == 2
    taken.release()
