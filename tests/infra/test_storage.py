import multiprocessing
import threading
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.storage import Storage


@pytest.fixture(params=["local", "memory", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return Storage(str(tmp_path / "store"))
    if request.param == "memory":
        return Storage(f"memory://{tmp_path.name}")
    return Storage(f"{request.getfixturevalue('s3_bucket')}/prefix")


def test_an_object_is_created_once(storage: Storage) -> None:
    assert storage.create("a/b.json", b"first")
    assert not storage.create("a/b.json", b"second")
    assert storage.read_bytes("a/b.json") == b"first"


def test_of_many_writers_one_wins(storage: Storage) -> None:
    for round_ in range(5):
        won: list[int] = []
        barrier = threading.Barrier(8)

        def race(
            me: int, name: str = f"race/{round_}", won: list[int] = won, barrier: threading.Barrier = barrier
        ) -> None:
            barrier.wait()
            if storage.create(name, str(me).encode()):
                won.append(me)

        threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.read_bytes(f"race/{round_}") == str(won[0]).encode()


def test_absent_is_told_apart_and_written_is_found(storage: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes("nothing")
    assert not storage.exists("nothing")
    assert storage.names("nothing") == []
    assert storage.find("nothing") == []
    storage.write_bytes("x/one", b"1")
    storage.write_bytes("x/deep/two", b"2")
    storage.write_bytes("x/one", b"11")
    assert storage.read_bytes("x/one") == b"11"
    assert storage.names("x") == ["deep", "one"]
    assert storage.find("x") == ["deep/two", "one"]
    assert storage.read_many(["x/one", "x/nothing"]) == {"x/one": b"11"}
    assert storage.read_many(["x/one"]) == {"x/one": b"11"}
    assert storage.read_many(["x/nothing"]) == {}
    storage.delete("x/one")
    storage.delete("x/one")
    assert storage.names("x") == ["deep"]


def test_files_go_up_and_come_down(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "up").write_bytes(b"\x00bytes")
    storage.upload(tmp_path / "up", "sub/file")
    storage.download("sub/file", tmp_path / "down" / "file")
    assert (tmp_path / "down" / "file").read_bytes() == b"\x00bytes"
    assert [p.name for p in (tmp_path / "down").iterdir()] == ["file"]


def _create(url: str, name: str) -> bool:
    return Storage(url).create(name, b"")


def test_processes_race_on_local_files_too(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for i in range(20):
            assert sum(pool.starmap(_create, [(str(tmp_path), f"race/{i}")] * 4)) == 1


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nosuch://bucket/x", "nosuch"),
        ("s3://", "bucket"),
        ("/proc/nothing/here", "/proc/nothing/here"),
    ],
)
def test_a_wrong_address_is_one_clear_line(url: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Storage(url).check()


def test_a_bucket_that_is_not_there_is_named(moto_server: str) -> None:
    with pytest.raises(UserError, match=r"s3://no-such-bucket-here/x: not found"):
        Storage("s3://no-such-bucket-here/x").check()


def test_an_endpoint_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with pytest.raises(UserError, match=r"s3://bucket/unreachable: cannot be reached"):
        Storage("s3://bucket/unreachable").check()
