"""Shards on object storage are read as local ones are, within the bounds of the cache."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from infra.errors import DataError
from infra.storage import Storage
from models import shards as module
from models.cache import DiskCache, StoredFile, _statuses
from models.data import TokenStream, TrainingData
from models.order import Stage, TrainingOrder
from models.shards import RemoteTokens, Shards, merge, shards_to_keep

SHARDS, TOKENS, LENGTH = 6, 5000, 64
BYTES = 2 * TOKENS


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six shards of random tokens, with the ends of documents beside them, and an empty one."""
    folder = tmp_path_factory.mktemp("shards")
    draw = np.random.default_rng(0)
    for number in range(SHARDS):
        draw.integers(0, 50_000, TOKENS).astype("<u2").tofile(folder / f"{number}.bin")
        np.save(folder / f"{number}.ends.npy", np.sort(draw.choice(TOKENS, 40, replace=False)).astype("<u8") + 1)
    (folder / "7.bin").write_bytes(b"")
    np.save(folder / "7.ends.npy", np.zeros(0, "<u8"))
    return sorted(folder.glob("*.bin"))


def uploaded(bucket: str, paths: list[Path]) -> list[StoredFile]:
    storage = Storage(f"{bucket}/tokens")
    for path in paths:
        storage.upload(path, path.name)
    return [
        StoredFile(root=storage.url, location=path.name, bytes=path.stat().st_size,
                   sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in paths
    ]  # fmt: skip


def ends(paths: list[Path]) -> list[Path]:
    return [path.with_suffix(".ends.npy") for path in paths]


@pytest.fixture
def remote(local: list[Path], s3_bucket: str) -> tuple[list[StoredFile], list[StoredFile]]:
    return uploaded(s3_bucket, local), uploaded(s3_bucket, ends(local))


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Callable[[int], Shards]]:
    opened = []

    def make(limit: int) -> Shards:
        opened.append(Shards(tmp_path / "cache", limit))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def data(stream: TokenStream, *, steps: int = 30, stages: list[Stage] | None = None, rank: int = 0) -> TrainingData:
    order = TrainingOrder(tokens=len(stream), sequence_length=LENGTH, batch=8, seed=1, stages=stages or [], steps=steps)
    return TrainingData(stream, order, rank=rank, ranks=2, micro_batch=2, documents=True)


def same(one: TrainingData, other: TrainingData, step: int) -> bool:
    return all(
        np.array_equal(mine, theirs)
        for batch, twin in zip(one.step(step), other.step(step), strict=True)
        for mine, theirs in zip(batch[:3], twin[:3], strict=True)
        if mine is not None
    )


def bytes_held(cache: DiskCache) -> int:
    """What lies in the cache, while nobody makes room there; a file that is renamed meanwhile counts once."""
    with cache._counting():
        return sum({status.st_ino: status.st_size for _, status in _statuses(cache.folder)}.values())


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, int, int]]]:
    """The ranges that storage is asked for, a call each."""
    asked: list[list[tuple[str, int, int]]] = []
    reading = Storage.read_ranges

    def counted(self: Storage, ranges: list[tuple[str, int, int]]) -> list[bytes]:
        asked.append(ranges)
        return reading(self, ranges)

    monkeypatch.setattr(Storage, "read_ranges", counted)
    return asked


def test_a_corpus_larger_than_the_cache_costs_its_own_bytes_an_epoch(
    local: list[Path],
    remote: tuple[list[StoredFile], list[StoredFile]],
    shards: Callable[[int], Shards],
    requests: list[list[tuple[str, int, int]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_GAP", 0)
    mine = data(TokenStream(local, "uint16", ends=ends(local)))
    small = shards(BYTES // 2)  # room for the ends of documents, and for no shard
    stream = TokenStream(remote[0], "uint16", ends=remote[1], remote=small)
    theirs = data(stream)
    small.keep(shards_to_keep(stream.shards, theirs.order, step=0, steps=30))
    requests.clear()
    for step in range(30):
        assert same(mine, theirs, step)
    assert len(requests) == 30  # all that a step needs at once
    windows = 30 * 4
    assert sum(end - first for ranges in requests for _, first, end in ranges) <= windows * 2 * (LENGTH + 1)
    assert bytes_held(small.cache) <= BYTES // 2


def test_shards_that_fit_are_kept_whole_and_asked_for_no_more(
    local: list[Path],
    remote: tuple[list[StoredFile], list[StoredFile]],
    shards: Callable[[int], Shards],
    requests: list[list[tuple[str, int, int]]],
) -> None:
    mine = data(TokenStream(local, "uint16", ends=ends(local)), steps=200)
    large = shards(1 << 20)
    stream = TokenStream(remote[0], "uint16", ends=remote[1], remote=large)
    theirs = data(stream, steps=200)
    assert same(mine, theirs, 0)  # at once, by ranges
    large.keep(shards_to_keep(stream.shards, theirs.order, step=0, steps=200))
    eventually(lambda: all(tokens.array is not None for tokens, _, _ in stream.shards))
    requests.clear()
    assert all(same(mine, theirs, step) for step in range(1, 200, 7))
    assert requests == []


def test_a_curriculum_passes_through_a_cache_that_holds_two_shards(
    local: list[Path], remote: tuple[list[StoredFile], list[StoredFile]], shards: Callable[[int], Shards]
) -> None:
    stages = [Stage("all", 1.0, SHARDS * TOKENS, True)]
    steps = SHARDS * TOKENS // LENGTH // 8
    mine = data(TokenStream(local, "uint16", ends=ends(local)), steps=steps, stages=stages)
    two = shards(2 * BYTES + BYTES // 2)
    stream = TokenStream(remote[0], "uint16", ends=remote[1], remote=two)
    theirs = data(stream, steps=steps, stages=stages)
    two.keep(shards_to_keep(stream.shards, theirs.order, step=0, steps=steps))
    kept = set()
    for step in range(steps):
        two.advance(step)
        at = int(theirs.order.starts(step)[0]) // TOKENS
        eventually(lambda at=at: stream.shards[at][0].array is not None)  # type: ignore[misc]
        assert same(mine, theirs, step)
        kept |= {number for number, (tokens, _, _) in enumerate(stream.shards) if tokens.array is not None}
        assert bytes_held(two.cache) <= two.cache.limit
    assert kept == set(range(SHARDS))


def test_a_shard_that_is_hardly_read_is_not_fetched_whole(
    remote: tuple[list[StoredFile], list[StoredFile]], shards: Callable[[int], Shards]
) -> None:
    stream = TokenStream(remote[0], "uint16", remote=shards(1 << 20))
    half = SHARDS * TOKENS // 2
    stages = [Stage("first", 0.9, half, False), Stage("second", 0.1, half, False)]
    order = data(stream, steps=50, stages=stages).order
    wanted = shards_to_keep(stream.shards, order, step=0, steps=50)
    assert [(each.tokens.file.location, each.first, each.end) for each in wanted] == [
        (f"{number}.bin", 0, 45) for number in range(3)
    ]
    assert shards_to_keep(stream.shards, order, step=45, steps=50) == []


def test_a_shard_that_is_damaged_stops_training_by_name(
    remote: tuple[list[StoredFile], list[StoredFile]], shards: Callable[[int], Shards]
) -> None:
    damaged = remote[0][2]
    Storage(damaged.root).write_bytes(damaged.location, bytes(BYTES))
    reading = shards(1 << 20)
    stream = TokenStream(remote[0], "uint16", remote=reading)
    theirs = data(stream, steps=300)
    theirs.documents = False
    reading.keep(shards_to_keep(stream.shards, theirs.order, step=0, steps=300))

    def stopped() -> bool:
        try:
            return not list(theirs.step(0))
        except DataError as exc:
            return str(exc).startswith(f"{damaged.url}: sha256 is ")

    eventually(stopped)


def test_what_nobody_announced_is_read_with_what_follows(
    local: list[Path],
    remote: tuple[list[StoredFile], list[StoredFile]],
    shards: Callable[[int], Shards],
    requests: list[list[tuple[str, int, int]]],
) -> None:
    mine = TokenStream(local, "uint16")
    stream = TokenStream(remote[0], "uint16", remote=shards(0))
    for start in range(0, TOKENS, 100):
        assert np.array_equal(stream.read(start, 100), mine.read(start, 100))
    assert len(requests) == 1


def test_ranges_with_small_gaps_are_one() -> None:
    assert merge([(500, 600), (0, 10), (5, 20)], 2) == [(0, 600)]
    far = module._GAP
    assert merge([(0, 10), (10 + far // 2, 9 + far), (2 * far, 2 * far + 1)], 2) == [
        (0, 9 + far),
        (2 * far, 2 * far + 1),
    ]


RANK = """
import hashlib, sys
from pathlib import Path
import tests.models.test_shards as test
from models.cache import DiskCache, StoredFile, _statuses
from models.data import TokenStream
from models.shards import Shards, shards_to_keep
import models.cache as cache

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
files = [StoredFile.model_validate_json(line) for line in sys.argv[3].splitlines()]
half = len(files) // 2
fetched, copying = [], cache.DiskCache._copy
cache.DiskCache._copy = lambda self, file, fd: fetched.append(file.location) or copying(self, file, fd)
reading = Shards(folder, 1 << 20)
stream = TokenStream(files[:half], "uint16", ends=files[half:], remote=reading)
order = test.data(stream, steps=200, rank=rank)
reading.keep(shards_to_keep(stream.shards, order.order, step=0, steps=200))
digest = hashlib.sha256()
for step in range(20):
    for batch in order.step(step):
        digest.update(batch.inputs.tobytes() + batch.documents.tobytes())
test.eventually(lambda: all(tokens.array is not None for tokens, _, _ in stream.shards))
reading.close()
print(digest.hexdigest(), *fetched)
"""


def test_ranks_of_a_machine_share_what_one_of_them_fetches(
    local: list[Path], remote: tuple[list[StoredFile], list[StoredFile]], tmp_path: Path
) -> None:
    files = "\n".join(file.model_dump_json() for file in (*remote[0], *remote[1]))
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path / "cache"), files],
                         stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[2])
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300)[0].split() for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0]
    for rank, (digest, *_) in enumerate(said):
        mine = data(TokenStream(local, "uint16", ends=ends(local)), steps=200, rank=rank)
        expected = hashlib.sha256()
        for step in range(20):
            for batch in mine.step(step):
                assert batch.documents is not None
                expected.update(batch.inputs.tobytes() + batch.documents.tobytes())
        assert digest == expected.hexdigest()
    fetched = [name for _, *names in said for name in names]
    assert sorted(fetched) == sorted(f.location for f in (*remote[0], *remote[1]) if not f.location.startswith("7"))


def test_local_files_are_read_where_they_are(local: list[Path], tmp_path: Path) -> None:
    files = [StoredFile(root=str(path.parent), location=path.name, bytes=path.stat().st_size, sha256="")
             for path in local]  # fmt: skip
    stream = TokenStream(files, "uint16", remote=Shards(tmp_path / "cache", 0))
    assert np.array_equal(stream.read(TOKENS - 5, 10), TokenStream(local, "uint16").read(TOKENS - 5, 10))
    assert not any(isinstance(tokens, RemoteTokens) for tokens, _, _ in stream.shards)
    assert not (tmp_path / "cache").exists()
