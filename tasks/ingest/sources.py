"""Sources of raw files: what a recipe says about them, and which files their paths name."""

import logging
import os
import posixpath
import re
from collections import Counter
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from infra.errors import UserError
from infra.steps import Execution
from infra.storage import explained, filesystem, is_local

log = logging.getLogger(__name__)

FileFormat = Literal["jsonl", "parquet", "csv", "text", "html"]

FORMATS: Final[dict[str, FileFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
}
"""Format of a file by the end of its name, compression aside."""

_COMPRESSIONS: Final = (".gz", ".zst")
_ARCHIVE: Final = re.compile(r"\.w?arc(\.|$)|\.wet(\.|$)", re.IGNORECASE)
_MAGIC: Final = re.compile(r"[*?[]")
_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class _Source(BaseModel):
    """What all sources have."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(pattern=_NAME)
    """Name of the source; the documents carry it."""
    licence: str | None = None
    """Licence of what the source holds, where a document does not name its own."""


class WarcSource(_Source):
    """WARC, WET or ARC archives; responses of status 200 with HTML or plain text become pages."""

    kind: Literal["warc"]
    paths: Annotated[list[str], Execution]
    """Archives: files, folders or globs, local or at any fsspec URL (s3://, https://, …)."""
    max_page_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """A larger page, as stored or decompressed, is dropped (bytes)."""


class FilesSource(_Source):
    """Files of records (JSON Lines, Parquet, CSV: one record, one document) or of one document each (text, HTML)."""

    kind: Literal["files"]
    paths: Annotated[list[str], Execution]
    """Files, folders or globs, local or at any fsspec URL (s3://, https://, …); .gz and .zst are decompressed."""
    format: FileFormat | Literal["auto"] = "auto"
    """What the files are; `auto` goes by the end of their names."""
    text_field: str = "text"
    """Field or column with the text."""
    url_field: str | None = None
    """Field with the document's URL; without one it is made of source, file and record number."""
    date_field: str | None = None
    """Field with the document's date, ISO 8601."""
    licence_field: str | None = None
    """Field with the document's licence."""
    encoding: str | None = None
    """Encoding of CSV files; by default UTF-8, or what is detected where the file is not that."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """Delimiter of CSV files; by default a comma, a tab in .tsv files."""
    max_record_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """A larger record or text file is dropped (bytes)."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        if encoding is not None:
            try:
                b"a".decode(encoding, "replace")  # refuses codecs that give no text, such as "hex"
            except (LookupError, ValueError) as error:
                raise ValueError("is no encoding that Python knows, such as utf-8 or cp1252") from error
        return encoding


class CrawlPages(_Source):
    """The pages of a crawl made by Millrace: its WARC files, whose fetch times must not show in the pages."""

    kind: Literal["crawl"] = "crawl"
    max_page_bytes: int = Field(default=16 * 1024 * 1024, ge=1)
    """A larger page, as stored or decompressed, is dropped (bytes)."""


def format_of(name: str) -> FileFormat | None:
    """Return the format that the name of a file stands for, or None."""
    lower = name.lower()
    for compression in _COMPRESSIONS:
        lower = lower.removesuffix(compression)
    return FORMATS.get(posixpath.splitext(lower)[1])


def expand_paths(source: WarcSource | FilesSource, field: str) -> list[tuple[str, str]]:
    """Find the files that a source's paths name.

    Returns (logical name, address) pairs sorted by name: the name is the path below the fixed part of the glob or the
    folder, the file's own name for a plain file; addresses are local absolute paths or URLs.  `field` is the place of
    the paths in the recipe, as in "ingest.sources[0].paths".  Raises UserError that names it and the path where a path
    matches nothing, cannot be reached, or is no file that the source can read.
    """
    found: dict[str, str] = {}
    for path in source.paths:
        with explained(f"{field}: {path}"):
            for name, address in _matches(source, path, field):
                found.setdefault(address, name)
    return sorted((name, address) for address, name in _distinct(found).items())


def _matches(source: WarcSource | FilesSource, path: str, field: str) -> list[tuple[str, str]]:
    fs, plain = filesystem(path)
    local = is_local(path)

    def address(at: str) -> str:
        return at if local else str(fs.unstrip_protocol(at))

    info = _info(fs, plain)
    if info is not None and info["type"] != "directory":
        _check_readable(source, posixpath.basename(plain), field)
        return [(posixpath.basename(plain), address(plain))]
    if info is None and not _is_glob(path):
        raise UserError(f"{field}: nothing is at {path}; give a file, a folder or a glob")
    if info is None:
        prefix = plain[: _MAGIC.search(plain).start()].rpartition("/")[0]  # type: ignore[union-attr]
        candidates = sorted(at for at, entry in fs.glob(plain, detail=True).items() if entry["type"] != "directory")
    else:
        prefix = plain.rstrip("/")
        candidates = sorted(fs.find(plain))
    named = [(at[len(prefix) :].lstrip("/"), address(at)) for at in candidates]
    chosen = [(name, at) for name, at in named if not _hidden(name) and _readable(source, name, glob=info is None)]
    if not chosen:
        unfit = f"; none of the {len(named)} files there is of a kind that it reads" if named else ""
        raise UserError(f"{field}: nothing matches {path}{unfit}")
    if len(chosen) < len(named):
        log.info("%s: %s: %d of %d files are not read", field, path, len(named) - len(chosen), len(named))
    return chosen


def _info(fs: Any, path: str) -> dict[str, Any] | None:
    try:
        info: dict[str, Any] = fs.info(path)
    except FileNotFoundError:
        return None
    return info


def _is_glob(path: str) -> bool:
    # A question mark in a web address begins its query.
    return "*" in path if path.startswith(("http://", "https://")) else bool(_MAGIC.search(path))


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _readable(source: WarcSource | FilesSource, name: str, glob: bool) -> bool:
    """Whether a file that a folder or glob holds is one to read; a glob and a format together are believed."""
    if isinstance(source, WarcSource):
        return bool(_ARCHIVE.search(posixpath.basename(name)))
    if source.format == "auto":
        return format_of(name) is not None
    return glob or format_of(name) == source.format


def _check_readable(source: WarcSource | FilesSource, name: str, field: str) -> None:
    if isinstance(source, FilesSource) and source.format == "auto" and format_of(name) is None:
        raise UserError(
            f"{field}: the name {name} does not say what it is; set `format` to jsonl, parquet, csv, text or html"
        )


def _distinct(found: dict[str, str]) -> dict[str, str]:
    """Tell files of the same name apart by as many of their parent folders as it takes."""
    names = dict(found)
    while clashing := {name for name, count in Counter(names.values()).items() if count > 1}:
        for address, name in names.items():
            if name in clashing:
                parts = address.replace(os.sep, "/").split("/")
                names[address] = "/".join(parts[-(name.count("/") + 2) :])
    return names
