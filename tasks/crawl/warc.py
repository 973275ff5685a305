"""WARC/1.1 files that the common readers read: each page decompressed, with its request, in gzip members of its own."""

import io
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime
from http.client import responses
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from infra.artifacts import Attempt
from tasks.crawl.frontier import Page

if TYPE_CHECKING:
    from tasks.crawl.step import CrawlConfig

_LEVEL = 6
_REWRITTEN = {"content-encoding", "transfer-encoding", "content-length"}
"""Headers that no longer describe the body as stored; kept under the prefix `X-Crawler-`, as Common Crawl does."""


def write_warcs(cfg: "CrawlConfig", pages: Iterable[Page], out: Attempt) -> int:
    """Write `warc/{name}-00000.warc.gz` and further ones of about `max_warc_bytes`; returns how many.

    A file is full by the bytes of its pages before compression: those are the same in every crawl of the same pages,
    and so is which page lies in which file (fetch times change what gzip makes of a record).
    """
    count, file, filled = 0, None, 0
    try:
        for page in pages:
            if file is None or filled >= cfg.max_warc_bytes:
                filled = 0
                if file is not None:
                    file.close()
                name = f"{cfg.name}-{count:05d}.warc.gz"
                file = out.path(f"warc/{name}").open("wb")
                _append(file, _about(cfg, name, page))
                count += 1
            for record in _records(page):
                _append(file, record)
            filled += len(page.body)
    finally:
        if file is not None:
            file.close()
    return count


_WRITER = WARCWriter(io.BytesIO(), gzip=False, warc_version="WARC/1.1")


def _append(file: BinaryIO, record: Any) -> None:
    plain = io.BytesIO()
    WARCWriter(plain, gzip=False, warc_version="WARC/1.1").write_record(record)
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS + 16)
    file.write(packer.compress(plain.getvalue()) + packer.flush())


def _about(cfg: "CrawlConfig", name: str, first: Page) -> Any:
    fields = {
        "software": f"Millrace/{version('millrace')}",
        "format": "WARC File Format 1.1",
        "conformsTo": "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/",
        "robots": "obey",
        "isPartOf": f"{cfg.name} {cfg.snapshot}".strip(),
        **({"operator": cfg.contact} if cfg.contact else {}),
    }
    body = "".join(f"{key}: {value}\r\n" for key, value in fields.items()).encode()
    head = {"WARC-Date": _date(first), "WARC-Filename": name, "WARC-Record-ID": _id("warcinfo", name, _date(first))}
    return _record("warcinfo", None, body, head, "application/warc-fields")


def _records(page: Page) -> Iterable[Any]:
    date, url = _date(page), page.url
    parts = urlsplit(url)
    response_id = _id("response", url, date)
    head = {"WARC-Date": date, "WARC-Record-ID": response_id, "WARC-Identified-Payload-Type": page.media_type}
    if page.address:
        head["WARC-IP-Address"] = page.address
    http = StatusAndHeaders(
        f"{page.status} {responses.get(page.status, '')}".strip(), _described(page), protocol=page.protocol
    )
    yield _record("response", url, page.body, head, "application/http; msgtype=response", http)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    http = StatusAndHeaders(
        f"GET {path} HTTP/1.1", [("Host", parts.netloc), *page.request_headers], is_http_request=True
    )
    head = {"WARC-Date": date, "WARC-Record-ID": _id("request", url, date), "WARC-Concurrent-To": response_id}
    yield _record("request", url, b"", head, "application/http; msgtype=request", http)
    if page.hop:
        head = {"WARC-Date": date, "WARC-Record-ID": _id("metadata", url, date), "WARC-Concurrent-To": response_id}
        body = f"via: {page.via}\r\nhopsFromSeed: {'L' * page.depth}{'R' * page.hop}\r\n".encode()
        yield _record("metadata", url, body, head, "application/warc-fields")


def _described(page: Page) -> list[tuple[str, str]]:
    kept = [
        (f"X-Crawler-{name}" if name.lower() in _REWRITTEN else name, value)
        for name, value in page.headers
        if name.lower() != "content-length" or value != str(len(page.body))
    ]
    return [*kept, ("Content-Length", str(len(page.body)))]


def _record(kind: str, url: str | None, body: bytes, head: dict[str, str], media_type: str, http: Any = None) -> Any:
    return _WRITER.create_warc_record(
        url,
        kind,
        payload=io.BytesIO(body),
        length=len(body),
        warc_content_type=media_type,
        warc_headers_dict=head,
        http_headers=http,
    )


def _date(page: Page) -> str:
    return datetime.fromtimestamp(page.fetched, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _id(kind: str, url: str, date: str) -> str:
    return f"<urn:uuid:{uuid5(NAMESPACE_URL, f'{kind} {url} {date}')}>"
