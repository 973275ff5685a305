"""Clusters of documents, and which one of a cluster stays."""

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

OLDEST = -(1 << 62)
"""Timestamp of a document without a date: any dated one is newer."""


class Clusters:
    """Disjoint sets of positions; a position that was never joined is alone and costs nothing."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def join(self, group: Sequence[int]) -> None:
        """Put all positions of a group into one cluster."""
        first = self._root(group[0])
        for position in group[1:]:
            other = self._root(position)
            first, other = min(first, other), max(first, other)
            self._parent[other] = first

    def groups(self) -> list[list[int]]:
        """Return the clusters of two or more, positions and clusters ascending."""
        members: dict[int, list[int]] = {}
        for position in sorted(self._parent):
            members.setdefault(self._root(position), []).append(position)
        return [group for group in members.values() if len(group) > 1]

    def _root(self, position: int) -> int:
        root = position
        while (parent := self._parent.setdefault(root, root)) != root:
            root = parent
        while (parent := self._parent[position]) != root:
            self._parent[position] = root
            position = parent
        return root


@dataclass(frozen=True)
class Member:
    """What the keep policy and the record of a removal know of a document in a cluster."""

    position: int
    preference: int
    """Smaller is better: what `keep` compares."""
    id: str
    rest: str
    """All columns but id and text: tells rows of the same id apart, so that their order never decides."""
    text_hash: bytes

    @property
    def rank(self) -> tuple[int, str, str, int]:
        """The order of preference; the first is kept.  Two of equal `rest` are the same row."""
        return self.preference, self.id, self.rest, self.position


@dataclass(frozen=True)
class Removal:
    """Why a document goes, and which one stands for it."""

    reason: str
    kept_id: str


def decide(cluster: Iterable[Member]) -> dict[int, Removal]:
    """Return the removals of a cluster by position: all of it but the document that the policy prefers.

    A removal is `exact` where a better document of the cluster has the same normalised text, else `minhash`: so the
    number of exact removals is that of an exact pass alone, whatever the policy.
    """
    best, *others = sorted(cluster, key=lambda member: member.rank)
    texts = {best.text_hash}
    removals = {}
    for member in others:
        removals[member.position] = Removal("exact" if member.text_hash in texts else "minhash", best.id)
        texts.add(member.text_hash)
    return removals


def timestamp(date: str | None) -> int:
    """Return an ISO 8601 date (also a year, or a year and month) as microseconds since 1970 UTC; OLDEST for none.

    A time without a zone is taken as UTC, a date without a time as its midnight.
    """
    text = (date or "").strip()
    if re.fullmatch(r"\d{4}(-\d{2})?", text):
        text = f"{text}-01-01"[:10]
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return OLDEST
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def cluster_sizes(documents: int, groups: Iterable[Sequence[int]]) -> npt.NDArray[np.uint32]:
    """Return for each document the number of documents in its cluster, itself included; shape (documents,)."""
    sizes = np.ones(documents, np.uint32)
    for group in groups:
        sizes[list(group)] = len(group)
    return sizes


def rest_of(row: Mapping[str, Any]) -> str:
    """Return the columns of a document other than id and text as one comparable string."""
    return repr([(name, row[name]) for name in sorted(row) if name not in ("id", "text")])
