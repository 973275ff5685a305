"""Small corpora for the tests of the steps between selection and training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from infra.artifacts import Artifact
from tasks.annotate import AnnotateConfig, MinhashSettings
from tasks.annotate.schema import signals_schema
from tasks.documents import DOCUMENTS, document_id, read_table, write_parquet

Shards = Sequence[Sequence[dict[str, Any]]]


def signature_schema(minhash: MinhashSettings) -> pa.Schema:
    """Some columns of signals/, with the metadata that annotate writes."""
    full = signals_schema(AnnotateConfig(minhash=minhash))
    return pa.schema([full.field("id"), full.field("minhash")], metadata=full.metadata)


def document(text: str, url: str = "", **columns: Any) -> dict[str, Any]:
    """A row of documents/; its URL is made from its text where none is given."""
    url = url or f"http://example.org/{text[:40]}"
    row = dict.fromkeys(DOCUMENTS.names) | {"text": text, "url": url, "source": "web", "metadata": "{}", "file": "f"}
    return row | {"id": document_id(url, text)} | columns


def write_folder(directory: Path, folder: str, shards: Shards) -> None:
    """Write one Parquet file a shard below `directory/folder`."""
    for number, rows in enumerate(shards):
        path = directory / folder / f"{number:05d}-part.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_parquet(path, rows, signature_schema(MinhashSettings()) if folder == "signals" else DOCUMENTS)


def corpus(directory: Path, shards: Shards, minhash: dict[str, bytes | None] | None = None) -> Artifact:
    """The artifact of `select`: documents/, and signals/ where signatures (by text) are given."""
    write_folder(directory, "documents", shards)
    if minhash is not None:
        rows = [[{"id": row["id"], "minhash": minhash.get(row["text"])} for row in shard] for shard in shards]
        write_folder(directory, "signals", rows)
    return Artifact.of(directory)


def parts(directory: Path, train: Shards, validation: Shards) -> Artifact:
    """The artifact of `split`."""
    write_folder(directory, "train", train)
    write_folder(directory, "validation", validation)
    return Artifact.of(directory)


def rows(directory: Path, folder: str) -> list[dict[str, Any]]:
    """All rows of a folder, in order of its files."""
    return [row for path in sorted((directory / folder).glob("*.parquet")) for row in read_table(path).to_pylist()]
