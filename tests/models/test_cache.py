"""The cache of files from object storage: bounded, checked, shared, and never trusting what was not finished."""

import fcntl
import hashlib
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from infra.errors import DataError, StorageError
from infra.storage import Storage
from models import cache as module
from models.cache import DiskCache, Held, StoredFile, npy


@pytest.fixture
def root() -> str:
    """An empty place on storage that is not local."""
    return f"memory://cache-{uuid.uuid4().hex}"


def stored(root: str, name: str, data: bytes) -> StoredFile:
    Storage(root).write_bytes(name, data)
    return StoredFile(root=root, location=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def whole(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


def test_a_file_is_fetched_once_however_many_want_it(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.random.default_rng(0).bytes(100_000)
    file = stored(root, "a", data)
    fetched = []
    reading = module.read_spans

    def counted(spans: list[tuple[StoredFile, int, int]]) -> list[bytes]:
        fetched.append(sum(end - first for _, first, end in spans))
        return reading(spans)

    monkeypatch.setattr(module, "read_spans", counted)
    monkeypatch.setattr(module, "_CHUNK", 30_000)
    found: list[bytes] = []

    def want() -> None:
        found.append(bytes(DiskCache(tmp_path, 1 << 20).wait_for(file)))

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [data] * 6
    assert sum(fetched) == len(data)
    assert whole(tmp_path) == {file.sha256}


def test_what_was_opened_longest_ago_makes_room_but_nothing_that_is_mapped(root: str, tmp_path: Path) -> None:
    files = [stored(root, str(n), bytes([n]) * 1000) for n in range(4)]
    cache = DiskCache(tmp_path, 2500)
    mapped = cache.wait_for(files[0])
    cache.wait_for(files[1]).close()
    cache.wait_for(files[2]).close()  # 1 goes: 0 is older, but mapped
    assert whole(tmp_path) == {files[0].sha256, files[2].sha256}
    other = cache.wait_for(files[2])
    assert cache.fetched(files[3]) is Held.NO_ROOM
    with pytest.raises(DataError, match=r"/3: its 1000 bytes do not fit .* MILLRACE_CACHE_BYTES is 2500, raise it"):
        cache.wait_for(files[3])
    other.close()
    assert bytes(cache.wait_for(files[3])) == bytes([3]) * 1000
    assert whole(tmp_path) == {files[0].sha256, files[3].sha256}
    assert bytes(mapped) == bytes(1000)


def test_bytes_that_are_not_those_of_the_manifest_are_never_taken(root: str, tmp_path: Path) -> None:
    file = stored(root, "changed", bytes(1000))
    Storage(root).write_bytes("changed", b"x" * 1000)
    cache = DiskCache(tmp_path, 1 << 20)
    with pytest.raises(DataError, match=rf"{root}/changed: sha256 is .*, its manifest says {file.sha256}"):
        cache.wait_for(file)
    Storage(root).write_bytes("changed", bytes(900))
    with pytest.raises(DataError, match=rf"{root}/changed: has 900 bytes from 0 on where its manifest says 1000"):
        cache.wait_for(file)
    Storage(root).delete("changed")
    with pytest.raises(DataError, match=rf"{root}/changed: gone from the storage"):
        cache.wait_for(file)
    assert whole(tmp_path) == set()


def test_storage_that_fails_is_asked_again_and_then_named(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stored(root, "a", bytes(1000))
    asked = []
    reading = Storage.read_ranges

    def failing(self: Storage, ranges: list[tuple[str, int, int]]) -> list[bytes]:
        asked.append(ranges)
        if len(asked) < 3:
            raise ConnectionResetError("the line is dead")
        return reading(self, ranges)

    monkeypatch.setattr(Storage, "read_ranges", failing)
    assert bytes(DiskCache(tmp_path, 1 << 20).wait_for(file)) == bytes(1000)
    assert len(asked) == 3
    monkeypatch.setattr(
        Storage, "read_ranges", lambda *_: (_ for _ in ()).throw(ConnectionResetError("the line is dead"))
    )
    with pytest.raises(StorageError, match=rf"{root}/a: could not be read \(ConnectionResetError: the line is dead\)"):
        file.read([(0, 10)])


KILLED = """
import sys, time
from pathlib import Path
from models import cache
from models.cache import DiskCache, StoredFile

class Half(StoredFile):
    def read(self, spans):
        if spans[0][0]:
            print("half", flush=True)
            time.sleep(60)
        return [bytes(end - first) for first, end in spans]

cache._CHUNK, cache._AT_ONCE = 1000, 1
file = Half.model_validate_json(sys.argv[1])
DiskCache(Path(sys.argv[2]), 10_000).wait_for(file)
"""


def test_what_a_killed_process_left_is_not_trusted_and_its_room_is_free(root: str, tmp_path: Path) -> None:
    data = bytes(1000) + b"x" * 5000
    file = stored(root, "a", data)
    program = [sys.executable, "-c", KILLED, file.model_dump_json(), str(tmp_path)]
    here = Path(__file__).resolve().parents[2]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "half\n"
        cache = DiskCache(tmp_path, 10_000)
        assert cache.fetched(file) is Held.BUSY
        assert cache.fetched(stored(root, "b", bytes(9000))) is Held.NO_ROOM  # that room is taken
        process.send_signal(signal.SIGKILL)
    assert whole(tmp_path) == {f"{file.sha256}.partial"}
    assert cache.mapped(file) is None
    assert bytes(cache.wait_for(stored(root, "b", bytes(9000)))) == bytes(9000)
    assert bytes(cache.wait_for(file)) == data


def test_a_file_that_becomes_whole_while_another_process_asks_for_it_is_left_alone(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"x" * 1000
    file, lock = stored(root, "a", data), fcntl.flock
    partial = tmp_path / f"{file.sha256}.partial"

    def late(fd: int, kind: int) -> None:
        if kind == fcntl.LOCK_EX | fcntl.LOCK_NB and partial.exists():  # who fetched it is done, and lets go of it
            partial.write_bytes(data)
            partial.rename(tmp_path / file.sha256)
        lock(fd, kind)

    monkeypatch.setattr(fcntl, "flock", late)
    assert bytes(DiskCache(tmp_path, 10_000).wait_for(file)) == data
    assert whole(tmp_path) == {file.sha256}


def test_a_file_of_another_size_is_fetched_anew(root: str, tmp_path: Path) -> None:
    file = stored(root, "a", bytes(1000))
    (tmp_path / file.sha256).write_bytes(bytes(500))
    assert bytes(DiskCache(tmp_path, 10_000).wait_for(file)) == bytes(1000)


def test_a_fetch_ends_when_its_process_does(root: str, tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10_000)
    cache.stop()
    with pytest.raises(StorageError, match="this process is ending"):
        cache.fetched(stored(root, "a", bytes(1000)))
    assert whole(tmp_path) == set()


def test_by_default_it_takes_a_share_of_what_the_disk_has_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.cache.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1 << 30}))
    assert DiskCache(tmp_path).limit == 1 << 29
    (tmp_path / "held").write_bytes(bytes(1 << 20))
    assert DiskCache(tmp_path).limit == pytest.approx((1 << 29) + (1 << 19), abs=1 << 16)


def test_arrays_are_read_from_their_bytes(root: str, tmp_path: Path) -> None:
    array = np.arange(2000, dtype="<u8").reshape(-1, 2)
    np.save(tmp_path / "a.npy", array)
    file = stored(root, "a.npy", (tmp_path / "a.npy").read_bytes())
    assert np.array_equal(npy(DiskCache(tmp_path / "cache", 1 << 20).wait_for(file)), array)
