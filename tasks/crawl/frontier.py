"""The frontier: every URL of a crawl, what became of it, and the responses, in one SQLite file that survives a kill.

A URL is pending until it is decided; the decision, the response and the URLs found in it are one transaction. What
was under way when the process died is pending again and nothing else is.
"""

import hashlib
import json
import sqlite3
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["page", "sitemap"]
KEPT = "kept"
SITEMAP_DEPTH = -1
"""Sitemaps are a level of their own, read before the seeds."""

_FORMAT = 1
_MAX_INVALID = 500  # characters kept of what cannot be parsed
_TABLES = """
CREATE TABLE urls (
    kind TEXT NOT NULL, url TEXT NOT NULL, depth INTEGER NOT NULL, hop INTEGER NOT NULL, rank TEXT NOT NULL,
    via TEXT NOT NULL, reason TEXT, status INTEGER, location TEXT, detail TEXT, fetched REAL, seconds REAL,
    bytes INTEGER, PRIMARY KEY (kind, url)
) WITHOUT ROWID;
CREATE INDEX pending ON urls (depth, hop, rank) WHERE reason IS NULL;
CREATE TABLE pages (url TEXT PRIMARY KEY, head TEXT NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE robots (origin TEXT PRIMARY KEY, body BLOB NOT NULL, fetched REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE marks (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Target:
    """A URL to request: its level is (links from a seed, redirects from a link); `via` is where it was found first."""

    url: str
    depth: int = 0
    hop: int = 0
    via: str = ""
    kind: Kind = "page"


@dataclass(frozen=True)
class Page:
    """A response that is kept; `body` is decompressed, headers are (name, value) pairs as sent."""

    url: str
    status: int
    protocol: str
    headers: list[tuple[str, str]]
    request_headers: list[tuple[str, str]]
    media_type: str
    body: bytes
    address: str | None = None
    via: str = ""
    depth: int = 0
    hop: int = 0
    fetched: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What became of a URL: `reason` is "kept" or why it was dropped."""

    reason: str
    status: int | None = None
    location: str | None = None
    detail: str | None = None
    seconds: float | None = None
    bytes: int | None = None
    page: Page | None = None
    found: list[Target] = field(default_factory=list)
    invalid: list[str] = field(default_factory=list)


class Frontier:
    """The state of one crawl in the file `path`, made if absent; one writer at a time."""

    def __init__(self, path: Path, *, order: Literal["hash", "url"] = "hash", seed: int = 0) -> None:
        self._order, self._seed = order, seed
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != _FORMAT:
            self._make()

    def _make(self) -> None:
        with self._transaction():
            for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                self._db.execute(f"DROP TABLE {name}")
            for statement in _TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)

    def _one(self, query: str, *values: Any) -> Any:
        row = self._db.execute(query, values).fetchone()
        return row[0] if row else None

    def close(self) -> None:
        """Close the file; what is committed stays."""
        self._db.close()

    def rank(self, url: str) -> str:
        """Return the place of `url` within its level; smaller comes first."""
        if self._order == "url":
            return url
        return hashlib.blake2b(f"{self._seed}\0{url}".encode(), digest_size=16).hexdigest()

    def add(self, targets: Iterable[Target]) -> None:
        """Make URLs pending; one that is known keeps its decision, or the earliest level and referrer seen."""
        with self._transaction():
            self._add(targets)

    def _add(self, targets: Iterable[Target]) -> None:
        self._db.executemany(
            "INSERT INTO urls (kind, url, depth, hop, rank, via) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET depth = excluded.depth, hop = excluded.hop, via = excluded.via "
            "WHERE reason IS NULL AND (excluded.depth, excluded.hop, excluded.via) < (depth, hop, via)",
            ((t.kind, t.url, t.depth, t.hop, self.rank(t.url), t.via) for t in targets),
        )

    def decide(self, target: Target, outcome: Outcome) -> None:
        """Commit what became of `target`, with the page kept and the URLs found, all or nothing."""
        now = time.time()
        with self._transaction():
            self._db.execute(
                "UPDATE urls SET reason = ?, status = ?, location = ?, detail = ?, fetched = ?, seconds = ?, bytes = ? "
                "WHERE kind = ? AND url = ?",
                (
                    *(outcome.reason, outcome.status, outcome.location, outcome.detail, now),
                    *(outcome.seconds, outcome.bytes, target.kind, target.url),
                ),
            )
            if outcome.page is not None:
                head = {
                    name: getattr(outcome.page, name)
                    for name in ("status", "protocol", "headers", "request_headers", "media_type", "address")
                }
                body = zlib.compress(outcome.page.body, 1)
                self._db.execute("INSERT OR REPLACE INTO pages VALUES (?, ?, ?)", (target.url, json.dumps(head), body))
            self._add(outcome.found)
            self._db.executemany(
                "INSERT OR IGNORE INTO urls (kind, url, depth, hop, rank, via, reason, fetched) "
                "VALUES ('page', ?, ?, 0, '', ?, 'invalid_url', ?)",
                ((url[:_MAX_INVALID], target.depth + 1, target.url, now) for url in outcome.invalid),
            )

    def reopen(self, targets: Iterable[Target]) -> None:
        """Make decided URLs pending again (an outage decided them, not the site)."""
        with self._transaction():
            self._db.executemany(
                "UPDATE urls SET reason = NULL WHERE kind = ? AND url = ?", [(t.kind, t.url) for t in targets]
            )

    def chain(self, target: Target) -> set[str]:
        """Return the URLs of the redirects that led to `target`, itself included."""
        seen, url, hop = {target.url}, target.via, target.hop
        while hop > 0 and url not in seen:
            seen.add(url)
            row = self._db.execute(
                "SELECT via, hop FROM urls WHERE kind = ? AND url = ?", (target.kind, url)
            ).fetchone()
            url, hop = row if row else ("", 0)
        return seen

    def level(self) -> tuple[int, int] | None:
        """Return the first level with a pending URL."""
        row: tuple[int, int] | None = self._db.execute(
            "SELECT depth, hop FROM urls WHERE reason IS NULL ORDER BY depth, hop LIMIT 1"
        ).fetchone()
        return row

    def pending(self, level: tuple[int, int], after: str, limit: int) -> list[tuple[str, Target]]:
        """Return the next pending URLs of a level by rank, each with its rank."""
        rows = self._db.execute(
            "SELECT rank, url, via, kind FROM urls WHERE reason IS NULL AND depth = ? AND hop = ? AND rank > ? "
            "ORDER BY rank LIMIT ?",
            (*level, after, limit),
        )
        return [(rank, Target(url, *level, via, kind)) for rank, url, via, kind in rows]

    def kept(self) -> tuple[int, int]:
        """Return how many pages are kept and their bytes, decompressed."""
        return self._db.execute(  # type: ignore[no-any-return]
            "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM urls WHERE kind = 'page' AND reason = ?", (KEPT,)
        ).fetchone()

    def decided(self) -> int:
        """Return how many URLs are decided."""
        return int(self._one("SELECT COUNT(*) FROM urls WHERE reason IS NOT NULL"))

    def sitemaps_read(self) -> int:
        """Return how many sitemaps are decided."""
        return int(self._one("SELECT COUNT(*) FROM urls WHERE kind = 'sitemap' AND reason IS NOT NULL"))

    def forget_sitemaps(self) -> None:
        """Give up the sitemaps that are still pending."""
        self._db.execute("DELETE FROM urls WHERE kind = 'sitemap' AND reason IS NULL")

    def mark(self, name: str) -> None:
        """Remember that something is done."""
        self._db.execute("INSERT OR IGNORE INTO marks VALUES (?)", (name,))

    def marked(self, name: str) -> bool:
        """Tell whether `mark(name)` was ever called."""
        return self._one("SELECT 1 FROM marks WHERE name = ?", name) is not None

    def robots(self, origin: str, max_age: float) -> bytes | None:
        """Return the robots.txt of `origin`, unless it is unknown or older than `max_age` seconds."""
        body: bytes | None = self._one(
            "SELECT body FROM robots WHERE origin = ? AND fetched > ?", origin, time.time() - max_age
        )
        return body

    def keep_robots(self, origin: str, body: bytes) -> None:
        """Remember the robots.txt of `origin`; empty where there is none."""
        self._db.execute("INSERT OR REPLACE INTO robots VALUES (?, ?, ?)", (origin, body, time.time()))

    def reasons(self) -> Iterator[tuple[str, str]]:
        """Yield (reason, URL) of every page URL decided, sorted by URL."""
        yield from self._db.execute(
            "SELECT reason, url FROM urls WHERE kind = 'page' AND reason IS NOT NULL ORDER BY url"
        )

    def pages(self) -> Iterator[Page]:
        """Yield the pages kept, sorted by URL."""
        rows = self._db.execute(
            "SELECT url, head, body, via, depth, hop, fetched, seconds FROM pages JOIN urls USING (url) "
            "WHERE kind = 'page' AND reason = ? ORDER BY url",
            (KEPT,),
        )
        for url, head, body, via, depth, hop, fetched, seconds in rows:
            fields = json.loads(head)
            for name in ("headers", "request_headers"):
                fields[name] = [(key, value) for key, value in fields[name]]
            yield Page(
                **fields,
                **{"url": url, "body": zlib.decompress(body), "via": via, "depth": depth, "hop": hop},
                **{"fetched": fetched, "seconds": seconds},
            )

    def log(self) -> Iterator[dict[str, Any]]:
        """Yield every decision, sitemaps included, in the order in which they fell; absent values are left out."""
        cursor = self._db.execute(
            "SELECT fetched, url, kind, reason, status, seconds, bytes, location, via, depth, hop, detail FROM urls "
            "WHERE reason IS NOT NULL ORDER BY fetched, kind, url"
        )
        names = [column[0] for column in cursor.description]
        for row in cursor:
            yield {name: value for name, value in zip(names, row, strict=True) if value not in (None, "")}


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


@dataclass(frozen=True)
class Limits:
    """When a crawl ends: pages, bytes of a page, bytes of all pages, sitemaps."""

    pages: int
    page_bytes: int
    total_bytes: int
    sitemaps: int = 0


class Queue:
    """Hands out the URLs that may be requested now, such that the pages kept do not depend on who answers first.

    A level is finished before the next one begins. Within it URLs go out by rank, never more at once than pages are
    still wanted, nor than would fit into the bytes left were they all of the largest size. So what went out is always
    a beginning of the order, and all its successes are kept.
    """

    _BATCH = 500

    def __init__(self, frontier: Frontier, limits: Limits) -> None:
        self._frontier, self._limits = frontier, limits
        self._pages, self._bytes = frontier.kept()
        self._sitemaps = frontier.sitemaps_read()
        self._under_way = 0
        self._level: tuple[int, int] | None = None
        self._after = ""
        self._batch: deque[tuple[str, Target]] = deque()

    def take(self) -> Target | None:
        """Return the next URL to request, or None if none may go out now."""
        target = self._next()
        if target is None or not self._room(target):
            return None
        self._after = self._batch.popleft()[0]
        self._under_way += 1
        return target

    def done(self, target: Target, outcome: Outcome) -> None:
        """Commit what became of a URL that was taken."""
        self._frontier.decide(target, outcome)
        self._under_way -= 1
        if target.kind == "sitemap":
            self._sitemaps += 1
        elif outcome.reason == KEPT:
            self._pages += 1
            self._bytes += outcome.bytes or 0

    def finished(self) -> bool:
        """Tell whether nothing is under way and nothing more will go out."""
        if self._under_way:
            return False
        target = self._next()
        return target is None or not self._room(target)

    def _room(self, target: Target) -> bool:
        limits, under_way = self._limits, self._under_way + 1
        if target.kind == "sitemap":
            return self._sitemaps + under_way <= limits.sitemaps
        return (
            self._pages + under_way <= limits.pages
            and self._bytes + under_way * limits.page_bytes <= limits.total_bytes
        )

    def _next(self) -> Target | None:
        while True:
            if not self._batch and self._level is not None:
                self._batch.extend(self._frontier.pending(self._level, self._after, self._BATCH))
            if not self._batch:
                if self._under_way or (level := self._frontier.level()) is None:
                    return None
                self._level, self._after = level, ""
                continue
            target = self._batch[0][1]
            if target.kind == "page" or self._under_way or self._sitemaps < self._limits.sitemaps:
                return target
            self._frontier.forget_sitemaps()
            self._batch.clear()
            self._level = None
