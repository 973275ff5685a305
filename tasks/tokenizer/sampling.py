"""Samples of documents that are the same whatever shards they come in: the first ones in the order of a seeded hash."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.manifests import File
from tasks.documents import iter_rows
from tasks.split import document_hash


@dataclass(frozen=True)
class Sample:
    """Some documents of some files; 17 bytes of memory a document."""

    files: tuple[File, ...]
    order: npt.NDArray[np.uint64]
    """First half of document_hash, shape (documents,)."""
    sizes: npt.NDArray[np.int64]
    """Bytes of UTF-8 of each text, shape (documents,)."""
    chosen: npt.NDArray[np.bool_]
    """Shape (documents,)."""

    @classmethod
    def all_of(cls, files: list[File], seed: int) -> "Sample":
        """Take all documents."""
        order, sizes = array("Q"), array("q")
        for file in files:
            for row in iter_rows(file, ["id", "text"]):
                order.append(int.from_bytes(document_hash(f"sample:{seed}", row["id"])[:8]))
                sizes.append(len(row["text"].encode()))
        count = len(sizes)
        return cls(
            tuple(files), np.frombuffer(order, np.uint64), np.frombuffer(sizes, np.int64), np.ones(count, np.bool_)
        )

    def at_most(self, limit: int) -> "Sample":
        """Take the first documents in the order of the seed with `limit` bytes together at most, but at least one."""
        ordered = np.argsort(self.order, kind="stable")
        fitting = int(np.searchsorted(np.cumsum(self.sizes[ordered]), limit, side="right"))
        chosen = np.zeros_like(self.chosen)
        chosen[ordered[: max(fitting, 1)]] = True
        return Sample(self.files, self.order, self.sizes, chosen)

    @property
    def documents(self) -> int:
        """How many there are."""
        return int(self.chosen.sum())

    @property
    def bytes(self) -> int:
        """How many bytes of UTF-8 their texts have."""
        return int(self.sizes[self.chosen].sum())

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield source and text of each, in the order of the files."""
        number = 0
        for file in self.files:
            for row in iter_rows(file, ["source", "text"]):
                if self.chosen[number]:
                    yield row["source"], row["text"]
                number += 1
