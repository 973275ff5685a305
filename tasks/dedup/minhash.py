"""Near duplicates by MinHash: datatrove's signature files, its bucket stage and its cluster stage, run locally.

The signatures themselves were computed once, by `annotate`.  What datatrove calls a file is here a chunk of consecutive
documents, whatever shards they came in, so that neither its result nor the number of files that it opens at once
depends on the shards.  Nothing is taken on trust: stage 2 must report exactly as many matches as the signatures hold.
"""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from infra.errors import DataError
from tasks.annotate import MinhashSettings

if TYPE_CHECKING:
    from datatrove.pipeline.dedup.minhash import MinhashConfig

log = logging.getLogger(__name__)

CHUNK_DOCUMENTS = 1 << 17
"""Documents in a signature file: 68 bytes a document and bucket are held until the file is sorted and written."""

MERSENNE_PRIME = (1 << 61) - 1
"""Stored hashes are below it (datatrove's 64-bit MinHash); its stage 2 would silently stop reading at a larger one."""


class SignatureFiles:
    """Writes stored signatures in the format of datatrove's stage 1: `bucket_{b:03d}/{chunk:05d}.minhash.sig`.

    A record is `hashes_per_bucket` little-endian uint64 and the position of the document in its chunk as uint32; the
    records of a file are sorted.
    """

    def __init__(self, folder: Path, settings: MinhashSettings, chunk_documents: int = CHUNK_DOCUMENTS) -> None:
        self.folder = folder
        self.settings = settings
        self.buckets = settings.num_buckets
        self.hashes_per_bucket = settings.hashes_per_bucket
        self.chunk_documents = chunk_documents
        self.chunks = 0
        self.documents = 0
        self.signatures = 0
        self._hashes: list[bytes] = []
        self._positions: list[int] = []
        self._record = np.dtype([*((f"hash{i}", "<u8") for i in range(self.hashes_per_bucket)), ("document", "<u4")])
        for bucket in range(self.buckets):
            self._bucket(bucket).mkdir(parents=True)

    def add(self, signature: bytes | None, id: str) -> None:
        """Take the signature of the next document; None for one that is too short to have one."""
        if signature is not None:
            self._require_length(signature, id)
            self._hashes.append(signature)
            self._positions.append(self.documents % self.chunk_documents)
            self.signatures += 1
        self.documents += 1
        if self.documents % self.chunk_documents == 0:
            self._write_chunk()

    def close(self) -> None:
        """Write what is left."""
        if self.documents % self.chunk_documents:
            self._write_chunk()

    def records(self, bucket: int) -> npt.NDArray[np.void]:
        """Read a bucket back: the hashes of all its records, shape (signatures,), one void value a record."""
        files = [self._file(bucket, chunk) for chunk in range(self.chunks)]
        hashes = [np.fromfile(file, self._record) for file in files]
        width = 8 * self.hashes_per_bucket
        rows = [np.ascontiguousarray(part.view(np.uint8).reshape(-1, width + 4)[:, :width]) for part in hashes]
        return np.concatenate(rows).view(np.dtype((np.void, width))).reshape(-1)

    def _bucket(self, bucket: int) -> Path:
        return self.folder / f"bucket_{bucket:03d}"

    def _file(self, bucket: int, chunk: int) -> Path:
        return self._bucket(bucket) / f"{chunk:05d}.minhash.sig"

    def _require_length(self, signature: bytes, id: str) -> None:
        expected = 8 * self.buckets * self.hashes_per_bucket
        if len(signature) != expected:
            raise DataError(
                f"the MinHash signature of document {id} has {len(signature)} bytes, not the {expected} of "
                f"{self.buckets} buckets of {self.hashes_per_bucket} hashes that its file declares"
            )

    def _write_chunk(self) -> None:
        shape = (len(self._positions), self.buckets, self.hashes_per_bucket)
        hashes = np.frombuffer(b"".join(self._hashes), "<u8").reshape(shape)
        if hashes.size and int(hashes.max()) >= MERSENNE_PRIME:
            raise DataError("a stored MinHash value is not below 2^61-1: the column `minhash` is not datatrove's")
        for bucket in range(self.buckets):
            records = np.empty(len(self._positions), self._record)
            for i in range(self.hashes_per_bucket):
                records[f"hash{i}"] = hashes[:, bucket, i]
            records["document"] = self._positions
            records.sort(order=records.dtype.names)
            records.tofile(self._file(bucket, self.chunks))
        self.chunks += 1
        self._hashes.clear()
        self._positions.clear()


def near_groups(signatures: SignatureFiles, work: Path) -> Iterator[list[int]]:
    """Yield the clusters of near duplicates, each as ascending positions in the order in which they were added.

    Stages 2 and 3 of datatrove on closed signature files; `work` is an empty local folder for what they write.
    Raises DataError where the matches found are not those that the signatures hold.
    """
    if not signatures.signatures:
        return
    config = datatrove_config(signatures.settings)
    pairs, clusters = work / "pairs", work / "clusters"
    _match(config, signatures, pairs)
    _cluster(config, pairs, clusters)
    groups: dict[int, list[int]] = {}
    for file in sorted(clusters.glob("*.clusters")):
        first = int(file.stem) * signatures.chunk_documents
        for document, cluster in np.fromfile(file, "<u4").reshape(-1, 2).tolist():
            groups.setdefault(cluster, []).append(first + document)
    yield from groups.values()


def datatrove_config(settings: MinhashSettings) -> "MinhashConfig":
    """Return the one MinhashConfig of every stage: that of the signatures."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.utils.hashing import HashConfig

    return MinhashConfig(**settings.model_dump(), hash_config=HashConfig(precision=64, hash_fc="xxhash"))


def _match(config: "MinhashConfig", signatures: SignatureFiles, pairs: Path) -> None:
    """Stage 2: write every pair of neighbours in the sorted signatures of a bucket, and check that none was missed."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets

    stage = MinhashDedupBuckets(
        str(signatures.folder), str(pairs), config=config, only_dedup_in_index=False, lines_to_buffer=-1
    )
    for bucket in range(config.num_buckets):
        with _quiet():
            stage.run(None, rank=bucket, world_size=config.num_buckets)
        records = signatures.records(bucket)
        found = (pairs / f"{bucket:05d}_00.dups").stat().st_size // 16  # a pair is 4 uint32
        expected = len(records) - len(np.unique(records))
        if len(records) != signatures.signatures or found != expected:
            raise DataError(
                f"MinHash bucket {bucket} holds {len(records)} of {signatures.signatures} signatures and gave {found} "
                f"matches instead of {expected}: the signature files were damaged while they were read"
            )
        log.debug("minhash bucket %d: %d signatures, %d matches", bucket, len(records), found)


def _cluster(config: "MinhashConfig", pairs: Path, clusters: Path) -> None:
    """Stage 3: connected components of the pairs."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupCluster

    stage = MinhashDedupCluster(str(pairs), str(clusters), config=config, save_cluster_id=True, lines_to_buffer=-1)
    with _quiet():
        stage.run(None, 0, world_size=1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep datatrove's own log lines and progress bars off stderr; errors are raised as ever."""
    from datatrove.utils.logging import logger

    logger.disable("datatrove")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.enable("datatrove")
