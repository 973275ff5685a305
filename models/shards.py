"""Token shards, wherever they lie: mapped from local disk, or read from object storage as training needs them.

Windows are read in an order that touches every shard all the time, so a cache that is smaller than the corpus and
follows that order would fetch whole shards for a few kilobytes of each, over and over.  Instead

- the windows of the next steps, which are known, are fetched as byte ranges just before they are needed: an epoch costs
  the bytes of the corpus once, whatever the cache holds, and training begins at once;
- meanwhile shards that are worth it are fetched whole, checked against the sha256 of their manifest and mapped, in the
  order of their first use and as many as the cache may hold; they stay until no later step needs them, since under a
  random order each shard that is kept saves as much as any other.

Bytes that come as ranges cannot be held against the sha256 of a whole file: they are checked for their length alone.
"""

import bisect
import logging
import mmap
import resource
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.cache import DiskCache, Held, StoredFile, npy, read_spans
from models.order import TrainingOrder

log = logging.getLogger(__name__)

WORTH_KEEPING = 0.5
"""A shard is fetched whole where training will read at least this many times what it holds."""

_GAP = 64 << 10
"""Bytes between two ranges that are sooner read than asked for apart."""

_AHEAD = 1 << 20
"""Bytes that are read at once where nobody said what will be needed, as in validation, which goes on from there."""

_SECONDS = 1.0


class RemoteTokens:
    """One shard on remote storage, as an array of tokens of which slices can be read."""

    def __init__(self, file: StoredFile, dtype: np.dtype[Any], at_hand: threading.local) -> None:
        self.file, self.dtype = file, dtype
        self.array: NDArray[Any] | None = None
        """The whole shard, while it is mapped."""
        self._at_hand = at_hand

    def __len__(self) -> int:
        return self.file.bytes // self.dtype.itemsize

    def __getitem__(self, place: slice) -> NDArray[Any]:
        array = self.array
        if array is not None:
            return array[place]
        begin, end, _ = place.indices(len(self))
        spans = self._spans()
        number = bisect.bisect_right(spans, begin, key=lambda span: span[0]) - 1
        if number < 0 or end > spans[number][0] + len(spans[number][1]):
            ahead = min(len(self), max(end, begin + _AHEAD // self.dtype.itemsize))
            (found,) = self.file.read([(begin * self.dtype.itemsize, ahead * self.dtype.itemsize)])
            spans[:], number = [(begin, np.frombuffer(found, self.dtype))], 0
        first, held = spans[number]
        return held[begin - first : end - first]

    def _spans(self) -> list[tuple[int, NDArray[Any]]]:
        """Return what this thread has at hand of the shard: (first token, tokens), ascending."""
        return at_hand(self._at_hand).setdefault(self.file.sha256, [])

    def map(self, data: mmap.mmap) -> None:
        """Read from these bytes of the whole file from now on."""
        self.array = np.frombuffer(data, dtype=self.dtype)


def at_hand(store: threading.local) -> dict[str, list[tuple[int, NDArray[Any]]]]:
    """Return what this thread has fetched, by the sha256 of the shard."""
    if not hasattr(store, "spans"):
        store.spans = {}
    spans: dict[str, list[tuple[int, NDArray[Any]]]] = store.spans
    return spans


Tokens = np.ndarray[Any, np.dtype[Any]] | RemoteTokens
Source = Path | StoredFile


def size_of(source: Source) -> int:
    """Return the bytes of a file."""
    return source.stat().st_size if isinstance(source, Path) else source.bytes


def open_tokens(sources: Sequence[Source], dtype: np.dtype[Any], shards: "Shards | None") -> list[Tokens]:
    """Return the tokens of files that are not empty; `shards` reads those that are not on local storage."""
    return [
        np.memmap(source, dtype=dtype, mode="r") if isinstance(source, Path) else _remote(shards).tokens(source, dtype)
        for source in map(_local, sources)
    ]


def open_arrays(sources: Sequence[Source], shards: "Shards | None") -> list[NDArray[Any]]:
    """Return the arrays of .npy files; `shards` fetches those that are not on local storage, whole, some at a time."""

    def one(source: Source) -> NDArray[Any]:
        if isinstance(source, Path):
            array: NDArray[Any] = np.load(source, mmap_mode="r")
            return array
        return _remote(shards).array(source)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, map(_local, sources)))


def _local(source: Source) -> Source:
    return source if isinstance(source, Path) else source.path or source


def _remote(shards: "Shards | None") -> "Shards":
    if shards is None:
        raise ValueError("shards on remote storage are read through `Shards`")
    return shards


@dataclass(frozen=True)
class Wanted:
    """A shard, and the steps that read it."""

    tokens: RemoteTokens
    first: int
    """The first step that does."""
    end: int
    """The step after the last one that does."""


class Shards:
    """What one process reads of token shards; nothing but memory-mapped files where all of them are local.

    folder: of the cache; limit: its size in bytes, by default a share of what its disk has left.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self._folder, self._limit = folder, limit
        self._cache: DiskCache | None = None
        self._at_hand = threading.local()
        self._wanted: list[Wanted] = []
        self._step = 0
        self._lock = threading.Lock()
        self._moved, self._closed = threading.Event(), threading.Event()
        self._keeper: threading.Thread | None = None
        self._failure: BaseException | None = None
        allow_open_files()

    @property
    def cache(self) -> DiskCache:
        """The cache, which is made when it is first needed."""
        if self._cache is None:
            self._cache = DiskCache(self._folder, self._limit)
        return self._cache

    def tokens(self, file: StoredFile, dtype: np.dtype[Any]) -> RemoteTokens:
        """Return the tokens of a shard on remote storage that is not empty."""
        return RemoteTokens(file, dtype, self._at_hand)

    def array(self, file: StoredFile) -> NDArray[Any]:
        """Return the array of a .npy file on remote storage, which is fetched whole first."""
        return npy(self.cache.wait_for(file))

    def fetch(self, places: Iterable[tuple[Tokens, int, int]]) -> None:
        """Have tokens (first, end) of remote shards at hand for this thread, all at once; forget what it had before.

        Raises what went wrong with shards that are fetched whole, too.
        """
        self.check()
        held = at_hand(self._at_hand)
        held.clear()
        apart: dict[str, tuple[RemoteTokens, list[tuple[int, int]]]] = {}
        for tokens, begin, end in places:
            if isinstance(tokens, RemoteTokens) and tokens.array is None:
                apart.setdefault(tokens.file.sha256, (tokens, []))[1].append((begin, end))
        spans = [(tokens, *span) for tokens, found in apart.values() for span in merge(found, tokens.dtype.itemsize)]
        asked = [(tokens.file, begin * tokens.dtype.itemsize, end * tokens.dtype.itemsize)
                 for tokens, begin, end in spans]  # fmt: skip
        for (tokens, begin, _), found in zip(spans, read_spans(asked), strict=True):
            held.setdefault(tokens.file.sha256, []).append((begin, np.frombuffer(found, tokens.dtype)))

    def keep(self, wanted: Sequence[Wanted]) -> None:
        """Fetch whole shards in the background from now on, in the order of their first use, as many as there is room.

        Those that another process of this machine fetches are waited for, not fetched twice.
        """
        self._wanted = sorted((each for each in wanted if each.tokens.file.bytes <= self.cache.limit),
                              key=lambda each: each.first)  # fmt: skip
        total = sum(each.tokens.file.bytes for each in self._wanted)
        if self._wanted and self._keeper is None:
            log.info("fetching %d shards (%.3g GB) into %s, which may hold %.3g GB", len(self._wanted), total / 1e9,
                     self._folder, self.cache.limit / 1e9)  # fmt: skip
            self._keeper = threading.Thread(target=self._keep, name="shards", daemon=True)
            self._keeper.start()

    def advance(self, step: int) -> None:
        """Let go of the shards that no step from `step` on reads: whoever needs their room may have it."""
        self.check()
        with self._lock:
            self._step = step
            over = [each for each in self._wanted if each.end <= step]
            self._wanted = [each for each in self._wanted if each.end > step]
            for each in over:
                each.tokens.array = None
        if over:
            self._moved.set()

    def check(self) -> None:
        """Raise what went wrong in the background."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Stop fetching."""
        self._closed.set()
        self._moved.set()
        if self._cache is not None:
            self._cache.stop()
        if self._keeper is not None:
            self._keeper.join()

    def _keep(self) -> None:
        try:
            while not self._closed.is_set() and any(each.tokens.array is None for each in self._wanted):
                self._map_what_fits()
                self._moved.wait(_SECONDS)
                self._moved.clear()
        except Exception as exc:
            if not self._closed.is_set():
                self._failure = exc

    def _map_what_fits(self) -> None:
        for each in self._wanted:
            if self._closed.is_set():
                return
            if each.tokens.array is not None or each.end <= self._step:
                continue
            found = self.cache.fetched(each.tokens.file)
            if found is Held.NO_ROOM:  # the rest is needed later still
                return
            if isinstance(found, mmap.mmap):
                with self._lock:  # a shard that was let go while it came stays so
                    if each.end > self._step:
                        each.tokens.map(found)


def merge(spans: list[tuple[int, int]], itemsize: int) -> list[tuple[int, int]]:
    """Return ascending spans that hold these, those with a small gap between them as one."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and (begin - merged[-1][1]) * itemsize <= _GAP:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def shards_to_keep(
    shards: Sequence[tuple[Tokens, int, int]], order: TrainingOrder, *, step: int, steps: int
) -> list[Wanted]:
    """Return which remote shards are worth fetching whole, and for which steps.

    shards: tokens, and where they begin and end in the stream; training goes on at `step`, up to `steps`.
    """
    wanted: dict[str, Wanted] = {}
    for stretch in order.stretches:
        begin, end = stretch.begin, steps if stretch.end is None else stretch.end
        passes = order.sequences(max(begin, step), end) / stretch.windows
        if passes < WORTH_KEEPING:
            continue
        size = stretch.windows * order.sequence_length
        for tokens, first, last in shards:
            low, high = (min(max((at - stretch.first) / size, 0.0), 1.0) for at in (first, last))
            if not isinstance(tokens, RemoteTokens) or low == high:
                continue
            steps_of = (begin, end)
            evenly = stretch.ordered and order.growth.batch_warmup is None
            if evenly and (end - begin) * order.batch <= stretch.windows:  # read once, from front to back
                count = end - begin
                steps_of = (max(begin, begin + int(low * count) - 1), min(end, begin + int(high * count) + 2))
            before = wanted.get(tokens.file.sha256, Wanted(tokens, *steps_of))
            wanted[tokens.file.sha256] = Wanted(
                before.tokens, min(before.first, steps_of[0]), max(before.end, steps_of[1])
            )
    return [each for each in wanted.values() if each.end > step]


def allow_open_files() -> None:
    """Raise this process's own limit of open files to what the machine allows: each mapped shard is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
