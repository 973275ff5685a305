"""The held-out text that a model is judged on: a fair share of each source, chosen by hash, whatever the shards."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.manifests import File
from tasks.documents import iter_rows
from tasks.split import document_hash


@dataclass(frozen=True)
class HeldOut:
    """A validation document, the last one of a source possibly cut short."""

    text: str
    source: str
    bytes: int
    """UTF-8 bytes of the text."""


def held_out(files: Sequence[File], max_bytes: int) -> Iterator[HeldOut]:
    """Yield up to `max_bytes` of text: of each source in turn its first documents in the order of a hash of their id.

    Sources share alike, and what one lacks is shared by the others.  The document that crosses a source's share is cut
    between characters.  Holds at most `max_bytes` and a document of each source.
    """
    firsts: dict[str, _Firsts] = {}
    for file in files:
        for row in iter_rows(file, ["id", "text", "source"], batch_rows=16):
            if row["text"]:
                kept = firsts.setdefault(row["source"], _Firsts(max_bytes))
                kept.add(document_hash("evaluate", row["id"]), row["text"].encode())
    shares = fair_shares({source: kept.bytes for source, kept in firsts.items()}, max_bytes)
    for source in sorted(firsts):
        left = shares[source]
        for data in firsts[source].ordered():
            text = data[:left].decode(errors="ignore")
            left -= len(data)
            if text:
                yield HeldOut(text, source, len(text.encode()))
            if left <= 0:
                break


def fair_shares(sizes: dict[str, int], total: int) -> dict[str, int]:
    """Divide `total` among names so that each gets its size, or no less than any other does."""
    shares = {}
    for waiting, name in zip(range(len(sizes), 0, -1), sorted(sizes, key=lambda n: (sizes[n], n)), strict=True):
        shares[name] = min(sizes[name], total // waiting)
        total -= shares[name]
    return shares


class _Firsts:
    """The first texts in the order of their keys that make up `limit` bytes, of any number that are added."""

    def __init__(self, limit: int) -> None:
        self._limit, self.bytes = limit, 0
        self._heap: list[tuple[int, bytes]] = []  # the last key first, so keys are negative

    def add(self, key: bytes, text: bytes) -> None:
        heapq.heappush(self._heap, (-int.from_bytes(key), text))
        self.bytes += len(text)
        while self.bytes - len(self._heap[0][1]) >= self._limit:
            self.bytes -= len(heapq.heappop(self._heap)[1])

    def ordered(self) -> list[bytes]:
        return [text for _, text in sorted(self._heap, reverse=True)]
