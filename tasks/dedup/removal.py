"""The work of `dedup`: survey all documents, cluster them, decide each cluster, write what stays and why the rest goes.

Memory: 24 bytes a document, and some hundred bytes for each that has a duplicate; texts and signatures are streamed.
"""

import logging
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.artifacts import Artifact, Attempt
from infra.errors import DataError
from infra.manifests import Counters, File
from tasks.annotate import MinhashSettings
from tasks.annotate.schema import minhash_settings
from tasks.dedup.clusters import Clusters, Member, Removal, cluster_sizes, decide, rest_of, timestamp
from tasks.dedup.exact import TEXT_HASH, equal_groups, normalise, text_hash
from tasks.dedup.minhash import SignatureFiles, near_groups
from tasks.documents import DOCUMENTS, DUPLICATES, ParquetShard, iter_rows

if TYPE_CHECKING:
    from tasks.dedup import DedupConfig, Keep

log = logging.getLogger(__name__)

CLUSTERS = pa.schema(
    [pa.field("id", pa.string(), nullable=False), pa.field("cluster_size", pa.uint32(), nullable=False)]
)
"""clusters/: in how many documents of the input a kept document stands for (1: it is unique)."""

COUNTED = {"exact": "exact_duplicate", "minhash": "near_duplicate"}
"""Reason in dropped/ -> reason in the counters."""


@dataclass(frozen=True)
class Shard:
    """A file of documents and the aligned file of their signals, if there is one."""

    documents: File
    signals: File | None

    def rows(self) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
        """Yield each document with its signals; raises DataError where the two are not aligned."""
        if self.signals is None:
            for document in iter_rows(self.documents):
                yield document, None
            return
        rows = zip(iter_rows(self.documents), iter_rows(self.signals), strict=True)
        for document, signals in _aligned(rows, self):
            yield document, signals


@dataclass(frozen=True)
class Survey:
    """What is held in memory of every document while duplicates are looked for: 24 bytes each."""

    text_hashes: npt.NDArray[np.void]
    """TEXT_HASH, shape (documents,)."""
    preferences: npt.NDArray[np.int64]
    """Smaller is kept sooner, shape (documents,)."""


def remove_duplicates(cfg: "DedupConfig", kept: Artifact, out: Attempt) -> Counters:
    """Write documents/, signals/, clusters/ and dropped/ of `kept`.

    Raises DataError where documents and signals are not aligned, or signatures are not what the config says.
    """
    shards = _shards(kept)
    with tempfile.TemporaryDirectory(dir=out.scratch) as temporary:
        work = Path(temporary)
        survey = _survey(cfg.keep, shards, out)
        clusters = Clusters()
        for group in equal_groups(survey.text_hashes):
            clusters.join(group)
        signatures = _signatures(cfg, shards, work / "signatures")
        if signatures is not None:
            for group in near_groups(signatures, work):
                clusters.join(group)
    groups = clusters.groups()
    removals = _decide(shards, survey, groups)
    sizes = cluster_sizes(len(survey.preferences), groups)
    counters = _write(shards, removals, sizes, out)
    counters.values["clusters"] = len(groups)
    counters.values["minhash_signatures"] = signatures.signatures if signatures is not None else 0
    return counters


def _shards(kept: Artifact) -> list[Shard]:
    documents, signals = kept.files("documents"), kept.files("signals")
    if signals and len(signals) != len(documents):
        raise DataError(f"dedup: {len(documents)} files of documents but {len(signals)} of signals")
    return [Shard(file, signals[i] if signals else None) for i, file in enumerate(documents)]


def _aligned(
    rows: Iterator[tuple[dict[str, Any], dict[str, Any]]], shard: Shard
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    try:
        for document, signals in rows:
            if document["id"] != signals["id"]:
                raise DataError(
                    f"dedup: {shard.documents.path} has {document['id']} where its signals have {signals['id']}"
                )
            yield document, signals
    except ValueError as error:  # zip(strict=True)
        raise DataError(f"dedup: {shard.documents.path} and its signals have different numbers of rows") from error


def _survey(keep: "Keep", shards: list[Shard], out: Attempt) -> Survey:
    """Read every text once: its normalised hash, and what the policy compares."""
    hashes, preferences = bytearray(), array("q")
    sources: dict[str, int] = {}
    for done, shard in enumerate(shards):
        out.progress(done, len(shards), "files")
        for row in iter_rows(shard.documents, ["text", "source", "date"]):
            normalised = normalise(row["text"])
            hashes += text_hash(normalised)
            if keep == "longest":
                preferences.append(-len(normalised))
            elif keep == "newest":
                preferences.append(-timestamp(row["date"]))
            else:
                preferences.append(sources.setdefault(row["source"], len(sources)))
    return Survey(np.frombuffer(hashes, TEXT_HASH), np.frombuffer(preferences, np.int64))


def _settings(shards: list[Shard]) -> MinhashSettings | None:
    """Return how the stored signatures were made, None where there are none; raises DataError where files disagree."""
    files = [shard.signals for shard in shards if shard.signals is not None]
    found = {minhash_settings(pq.read_schema(file.local())) for file in files}
    if len(found) > 1:
        raise DataError(
            "dedup: the MinHash signatures of the input were made with different settings of annotate.minhash"
        )
    return found.pop() if found else None


def _signatures(cfg: "DedupConfig", shards: list[Shard], folder: Path) -> SignatureFiles | None:
    """Write the stored signatures as datatrove's stage 1 would; None where there is nothing to compare."""
    if not cfg.minhash or not shards:
        return None
    settings = _settings(shards)
    if settings is None:
        log.warning("dedup: the input has no MinHash signatures (annotate.minhash), only exact duplicates are removed")
        return None
    files = SignatureFiles(folder, settings)
    for shard in shards:
        assert shard.signals is not None
        rows = zip(iter_rows(shard.documents, ["id"]), iter_rows(shard.signals, ["id", "minhash"]), strict=True)
        for _, signals in _aligned(rows, shard):
            files.add(signals["minhash"], signals["id"])
    files.close()
    return files


def _decide(shards: list[Shard], survey: Survey, groups: list[list[int]]) -> Mapping[int, Removal]:
    """Apply the policy to every cluster; only the documents in one are read again, without their texts."""
    members = _members(shards, survey, {position for group in groups for position in group})
    removals: dict[int, Removal] = {}
    for group in groups:
        removals.update(decide(members[position] for position in group))
    return removals


def _members(shards: list[Shard], survey: Survey, wanted: set[int]) -> dict[int, Member]:
    columns = [name for name in DOCUMENTS.names if name != "text"]
    members: dict[int, Member] = {}
    position = 0
    for shard in shards:
        for row in iter_rows(shard.documents, columns):
            if position in wanted:
                members[position] = Member(
                    position=position,
                    preference=int(survey.preferences[position]),
                    id=row["id"],
                    rest=rest_of(row),
                    text_hash=survey.text_hashes[position].tobytes(),
                )
            position += 1
    return members


def _write(
    shards: list[Shard], removals: Mapping[int, Removal], sizes: npt.NDArray[np.uint32], out: Attempt
) -> Counters:
    counters = Counters()
    first = 0
    for number, shard in enumerate(shards):
        out.progress(number, len(shards), "files")
        first += _write_shard(shard, f"{number:05d}.parquet", removals, sizes[first:], first, out, counters)
    return counters


def _write_shard(
    shard: Shard,
    name: str,
    removals: Mapping[int, Removal],
    sizes: npt.NDArray[np.uint32],
    first: int,
    out: Attempt,
    counters: Counters,
) -> int:
    """Write one input file's part of every folder; return the number of documents it had."""
    schema = pq.read_schema(shard.signals.local()) if shard.signals else None
    position = 0
    with (
        ParquetShard(out.path(f"documents/{name}"), DOCUMENTS) as documents,
        ParquetShard(out.path(f"clusters/{name}"), CLUSTERS) as clusters,
        ParquetShard(out.path(f"dropped/{name}"), DUPLICATES) as dropped,
        ParquetShard(out.path(f"signals/{name}"), schema) if schema else nullcontext() as kept_signals,
    ):
        for document, signals in shard.rows():
            removal = removals.get(first + position)
            if removal is None:
                documents.write(document)
                clusters.write({"id": document["id"], "cluster_size": int(sizes[position])})
                if kept_signals is not None and signals is not None:
                    kept_signals.write(signals)
                counters.keep()
            else:
                row = {"id": document["id"], "url": document["url"]}
                dropped.write({**row, "reason": removal.reason, "kept_id": removal.kept_id})
                counters.drop(COUNTED[removal.reason], document["url"])
            position += 1
    return position
