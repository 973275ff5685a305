"""Archives that the tests of ingest make, sound ones and damaged ones."""

import gzip
import io
from collections.abc import Mapping
from pathlib import Path

PAGE = "<!doctype html><html lang=en><head><title>{title}</title></head><body><main><p>{text}</p></main></body></html>"
SENTENCE = "A mill race is the channel that leads the water of a stream to the wheel of a mill and back. "


def page(title: str, repeat: int = 6) -> bytes:
    """An HTML page with enough text for every extractor."""
    return PAGE.format(title=title, text=f"{title}: " + SENTENCE * repeat).encode()


def http_response(body: bytes, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{k}: {v}" for k, v in (headers or {"Content-Type": "text/html"}).items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def record(kind: str, url: str, block: bytes, content_type: str = "application/http; msgtype=response") -> bytes:
    head = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-02T03:04:05Z\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def response(url: str, body: bytes, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> bytes:
    return record("response", url, http_response(body, status, headers))


def member(data: bytes) -> bytes:
    """One gzip member, the same bytes each time."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as stream:
        stream.write(data)
    return out.getvalue()


def write_warc(path: Path, records: list[bytes], compress: bool = True) -> list[int]:
    """Write an archive; return the offset of each record and, last, the size of the file."""
    offsets, data = [], b""
    for item in records:
        offsets.append(len(data))
        data += member(item) if compress else item
    path.write_bytes(data)
    return [*offsets, len(data)]


def urls(count: int) -> list[str]:
    return [f"http://mill.example/{i:03d}" for i in range(count)]
