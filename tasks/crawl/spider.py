"""The crawl itself, on Scrapy: the scheduler that hands out what the frontier's queue allows, and the spider."""

import gzip
import io
import logging
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from scrapy import Request, Spider, signals
from scrapy.core.scheduler import BaseScheduler
from scrapy.exceptions import (
    CannotResolveHostError,
    DownloadCancelledError,
    DownloadConnectionRefusedError,
    DownloadFailedError,
    DownloadTimeoutError,
    ResponseDataLossError,
    StopDownload,
)
from scrapy.http import Response, TextResponse
from scrapy.utils.sitemap import Sitemap
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from w3lib.html import get_base_url

from tasks.crawl.addresses import GuardedResolver
from tasks.crawl.frontier import KEPT, SITEMAP_DEPTH, Frontier, Outcome, Page, Queue, Target
from tasks.crawl.politeness import UNREACHED, RefusedError, RobotsMiddleware
from tasks.crawl.turnstile import Turnstiles
from tasks.crawl.urls import Scope, normalise, origin

if TYPE_CHECKING:
    from scrapy.crawler import Crawler

    from tasks.crawl.step import CrawlConfig

logger = logging.getLogger(__name__)

SITEMAP_BYTES = 52_428_800
"""Largest sitemap, decompressed, in bytes (sitemaps.org, protocol)."""
SITEMAP_URLS = 50_000
"""Most URLs read from one sitemap (sitemaps.org, protocol)."""
SNIFFED_BYTES = 1024

_UNSENT = ("robots", "robots_unreachable", "private_address", "retry_after", "crawl_delay")
"""Reasons of refusals that say nothing about the network: these URLs were not asked for."""
_FAILURES: tuple[tuple[type[BaseException], str], ...] = (
    (DownloadCancelledError, "too_large"),
    (DownloadTimeoutError, "timeout"),
    (CannotResolveHostError, "dns"),
    (ResponseDataLossError, "data_loss"),
    (DownloadConnectionRefusedError, "connection"),
    (DownloadFailedError, "connection"),
    (ConnectError, "connection"),
    (ConnectionDone, "connection"),
    (ConnectionLost, "connection"),
    (OSError, "content_encoding"),
    (EOFError, "content_encoding"),
    (zlib.error, "content_encoding"),
    (ValueError, "invalid_url"),
)


class FrontierScheduler(BaseScheduler):
    """Gives Scrapy's engine the next URL of the queue; holds in memory only requests that are to be repeated."""

    def __init__(self, spider: "SiteSpider") -> None:
        self._spider = spider
        self._again: deque[Request] = deque()

    @classmethod
    def from_crawler(cls, crawler: "Crawler") -> Self:
        """Make the scheduler as Scrapy does."""
        return cls(crawler.spider)  # type: ignore[arg-type]

    def has_pending_requests(self) -> bool:
        """Tell whether the crawl is not over yet."""
        return bool(self._again) or not self._spider.over()

    def enqueue_request(self, request: Request) -> bool:
        """Take back a request that the retry middleware wants repeated."""
        self._again.append(request)
        return True

    def next_request(self) -> Request | None:
        """Return what may be requested now."""
        return self._again.popleft() if self._again else self._spider.next_request()


class SiteSpider(Spider):
    """Requests what the queue hands out and commits what became of it."""

    name = "millrace"
    robots: RobotsMiddleware

    def __init__(
        self,
        *,
        cfg: "CrawlConfig",
        frontier: Frontier,
        queue: Queue,
        scope: Scope,
        seeds: list[str],
        progress: Callable[[int], None],
    ) -> None:
        super().__init__()
        self.cfg, self.frontier, self.queue, self.scope = cfg, frontier, queue, scope
        self.turnstiles = Turnstiles(
            cfg.host_concurrency, cfg.delay_seconds, lambda host: frontier.marked(_given_up(host))
        )
        self.failure: BaseException | None = None
        self._seeds, self._progress = seeds, progress
        self._resolver: GuardedResolver | None = None
        self._ready = False
        self._kept = frontier.kept()[0]
        self._unreached: list[Target] = []

    async def start(self) -> AsyncIterator[Any]:
        """Guard name resolution and find the sitemaps; the URLs themselves come from the queue."""
        from twisted.internet import reactor

        self._resolver = GuardedResolver(
            reactor.nameResolver,
            allow_private=self.cfg.allow_private,
            connect_to=self.cfg.connect_to,
        )
        reactor.installNameResolver(self._resolver)
        self.crawler.signals.connect(self._headers_received, signals.headers_received)
        try:
            await self._begin()
        except Exception as exc:
            self.fail(exc)
        self._ready = True
        if False:  # makes this function the generator that Scrapy wants
            yield

    async def _begin(self) -> None:
        if self.frontier.marked("begun"):
            return
        sitemaps = {url for url in map(normalise, self.cfg.sitemaps) if url}
        if self.cfg.robots_sitemaps and self.cfg.max_depth > 0:
            for site in sorted({origin(url) for url in self._seeds}):
                sitemaps.update(await self.robots.sitemaps(site))
        self.frontier.add(Target(url, SITEMAP_DEPTH, kind="sitemap") for url in sorted(sitemaps))
        self.frontier.add(Target(url) for url in self._seeds)
        self.frontier.mark("begun")

    def fail(self, exc: BaseException) -> None:
        """End the crawl; `exc` is what the step raises."""
        self.failure = self.failure or exc

    def give_up(self, url: str, seconds: float) -> None:
        """Ask the host of `url` for nothing any more, also when the crawl goes on after a stop."""
        host = urlsplit(url).hostname or ""
        if not self.frontier.marked(_given_up(host)):
            logger.warning("%s asks for a wait of %.0f seconds (%s): it is not asked again", host, seconds, url)
            self.frontier.mark(_given_up(host))
        self.turnstiles[url].close()

    def over(self) -> bool:
        """Tell whether no request will follow."""
        return self.failure is not None or (self._ready and self.queue.finished())

    def next_request(self) -> Request | None:
        """Return the next request of the crawl, or None if none may go out now."""
        if not self._ready or self.failure is not None:
            return None
        target = self.queue.take()
        if target is None:
            return None
        meta: dict[str, Any] = {"target": target, "began": time.monotonic()}
        if target.kind == "sitemap":
            meta["download_maxsize"] = SITEMAP_BYTES
        return Request(target.url, callback=self._answered, errback=self._failed, meta=meta, dont_filter=True)

    def private(self, url: str) -> str | None:
        """Return the private address that the host of `url` has, if that is why it was not connected to."""
        host = (urlsplit(url).hostname or "").lower()
        return self._resolver.refused.get(host) if self._resolver else None

    def why(self, url: str, exc: BaseException | None) -> tuple[str, str]:
        """Return (reason, detail) of a request that failed."""
        if isinstance(exc, RefusedError):
            return exc.reason, str(exc)
        if isinstance(exc, CannotResolveHostError) and self.private(url):
            return "private_address", "resolves to a private address"
        for kind, reason in _FAILURES:
            if isinstance(exc, kind):
                return reason, f"{type(exc).__name__}: {exc}"
        return "failed", f"{type(exc).__name__}: {exc}"

    def _headers_received(self, headers: Any, request: Request, **_: Any) -> None:
        """Break off a response whose type is not wanted before its body comes."""
        target = request.meta.get("target")
        if target is None or target.kind != "page":
            return
        media_type = _media_type(headers)
        if media_type and media_type not in self.cfg.content_types:
            raise StopDownload(fail=False)

    def _failed(self, failure: Failure) -> None:
        request: Request = failure.request  # type: ignore[attr-defined]
        target: Target = request.meta["target"]
        reason, detail = self.why(request.url, failure.value)
        self._commit(target, Outcome(reason, detail=detail, seconds=_seconds(request)))

    def _answered(self, response: Response) -> None:
        request = response.request
        assert request is not None
        target: Target = request.meta["target"]
        try:
            outcome = self._judge(target, response, _seconds(request))
        except Exception as exc:
            self.fail(exc)
            return
        self._commit(target, outcome)

    def _commit(self, target: Target, outcome: Outcome) -> None:
        if self.failure is not None and outcome.reason in UNREACHED:
            return  # stays pending
        try:
            self.queue.done(target, outcome)
            self._watch(target, outcome)
        except Exception as exc:
            self.fail(exc)
            return
        if outcome.reason == KEPT and target.kind == "page":
            self._kept += 1
            self._progress(self._kept)

    def _watch(self, target: Target, outcome: Outcome) -> None:
        """Stop when nothing can be reached any more: an outage here must not pass for an empty site."""
        if outcome.reason in _UNSENT:
            return
        if outcome.reason not in UNREACHED:
            self._unreached.clear()
            return
        self._unreached.append(target)
        if len(self._unreached) >= self.cfg.max_outage:
            self.frontier.reopen(self._unreached)
            self.fail(
                ConnectionError(
                    f"the last {len(self._unreached)} requests reached no server (most recently {target.url}: "
                    f"{outcome.detail}); the crawl goes on from here when it is run again"
                )
            )

    def _judge(self, target: Target, response: Response, seconds: float) -> Outcome:
        status = response.status
        if status // 100 == 3 and response.headers.get("Location"):
            return self._redirect(target, response, seconds)
        if status != 200:
            return Outcome(f"status_{status}", status, seconds=seconds)
        if target.kind == "sitemap":
            return self._sitemap(target, response, seconds)
        media_type = _media_type(response.headers) or _sniff(response)
        if media_type not in self.cfg.content_types:
            return Outcome("content_type", status, detail=media_type or "unknown", seconds=seconds)
        if not response.body.strip():
            return Outcome("empty", status, seconds=seconds)
        found, invalid = self._links(target, response) if target.depth < self.cfg.max_depth else ([], [])
        page = Page(
            url=target.url,
            status=status,
            protocol=response.protocol or "HTTP/1.1",
            headers=_pairs(response.headers),
            request_headers=_pairs(response.request.headers),  # type: ignore[union-attr]
            media_type=media_type,
            body=response.body,
            address=None if self._mapped(target.url) else _address(response),
        )
        return Outcome(
            *(KEPT, status), seconds=seconds, bytes=len(response.body), page=page, found=found, invalid=invalid
        )

    def _mapped(self, url: str) -> bool:
        return (urlsplit(url).hostname or "") in self.cfg.connect_to

    def _redirect(self, target: Target, response: Response, seconds: float) -> Outcome:
        raw = (response.headers.get("Location") or b"").decode("latin-1")
        try:
            location = normalise(raw, target.url)
        except ValueError as exc:
            return Outcome("redirect_invalid", response.status, raw[:500], str(exc), seconds)
        reason, found = "redirect", []
        if location is None or (target.kind == "page" and location not in self.scope):
            reason = "redirect_out_of_scope"
        elif location in self.frontier.chain(target):
            reason = "redirect_loop"
        elif target.hop >= self.cfg.max_redirects:
            reason = "redirect_limit"
        else:
            found = [Target(location, target.depth, target.hop + 1, target.url, target.kind)]
        return Outcome(reason, response.status, location or raw[:500], seconds=seconds, found=found)

    def _links(self, target: Target, response: Response) -> tuple[list[Target], list[str]]:
        if not isinstance(response, TextResponse) or "html" not in (_media_type(response.headers) or "html"):
            return [], []
        found: set[str] = set()
        invalid: set[str] = set()
        base = _base(response)
        for link in set(response.xpath("//a/@href | //area/@href").getall()):
            try:
                url = normalise(link, base)
            except ValueError:
                invalid.add(link.strip())
                continue
            if url and url in self.scope:
                found.add(url)
        return [Target(url, target.depth + 1, 0, target.url) for url in sorted(found)], sorted(invalid)

    def _sitemap(self, target: Target, response: Response, seconds: float) -> Outcome:
        body = response.body
        if body[:2] == b"\x1f\x8b":
            try:
                with gzip.GzipFile(fileobj=io.BytesIO(body)) as unpacked:
                    body = unpacked.read(SITEMAP_BYTES + 1)
            except (OSError, EOFError) as exc:
                return Outcome("sitemap_invalid", 200, detail=str(exc), seconds=seconds)
            if len(body) > SITEMAP_BYTES:
                return Outcome("too_large", 200, detail="decompressed", seconds=seconds)
        try:
            sitemap = Sitemap(body)
            entries = [entry["loc"] for entry, _ in zip(sitemap, range(SITEMAP_URLS), strict=False)]
        except (StopIteration, SyntaxError, ValueError) as exc:
            return Outcome("sitemap_invalid", 200, detail=str(exc), seconds=seconds)
        index = sitemap.type == "sitemapindex"
        found, invalid = [], []
        for entry in entries:
            try:
                url = normalise(entry, target.url)
            except ValueError:
                invalid.append(entry)
                continue
            if url and index:
                found.append(Target(url, SITEMAP_DEPTH, target.hop + 1, target.url, "sitemap"))
            elif url and url in self.scope:
                found.append(Target(url, 1, 0, target.url))
        return Outcome("sitemap", 200, seconds=seconds, bytes=len(body), found=found, invalid=invalid)


def _given_up(host: str) -> str:
    return f"given up: {host}"


def _base(response: TextResponse) -> str:
    try:
        return get_base_url(response.text[:4096], response.url, response.encoding)
    except ValueError:
        return response.url


def _media_type(headers: Any) -> str:
    return (headers.get("Content-Type") or b"").decode("latin-1").partition(";")[0].strip().lower()


def _sniff(response: Response) -> str:
    """Return the media type of a response that names none: HTML or text by its beginning, else nothing."""
    start = response.body[:SNIFFED_BYTES]
    if b"\0" in start:
        return ""
    return "text/html" if start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<") else "text/plain"


def _pairs(headers: Any) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, values in headers.items() for value in values]


def _address(response: Response) -> str | None:
    address = response.ip_address
    return str(address) if address is not None and address.is_global else None


def _seconds(request: Request) -> float:
    return round(time.monotonic() - float(request.meta["began"]), 3)
