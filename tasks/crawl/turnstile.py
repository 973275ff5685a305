"""How many requests a host gets at once and how far apart: enforced where the request leaves.

Scrapy's own slots are not relied on: under asyncio (2.19) they hand out every request that is queued in the same turn
of the event loop, whatever `CONCURRENT_REQUESTS_PER_DOMAIN` says.
"""

import asyncio
import math
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from scrapy import Request
from scrapy.core.downloader.handlers.http11 import HTTP11DownloadHandler
from scrapy.http import Response

if TYPE_CHECKING:
    from tasks.crawl.spider import SiteSpider


class Turnstile:
    """Lets `concurrency` requests at a time pass to one host, `delay` seconds apart."""

    def __init__(self, concurrency: int, delay: float) -> None:
        self._room, self._gate = asyncio.Semaphore(concurrency), asyncio.Lock()
        self._delay = delay
        self._last = -math.inf
        self._paused = 0.0

    def slow_down(self, delay: float) -> None:
        """Keep requests at least `delay` seconds apart from now on."""
        self._delay = max(self._delay, delay)

    def pause(self, seconds: float) -> None:
        """Let nothing pass for a while."""
        self._paused = max(self._paused, time.monotonic() + seconds)

    async def __aenter__(self) -> Self:
        await self._room.acquire()
        async with self._gate:
            while (wait := max(self._last + self._delay, self._paused) - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            self._last = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._room.release()


class Turnstiles:
    """One turnstile a host, whatever the port."""

    def __init__(self, concurrency: int, delay: float) -> None:
        self._concurrency, self._delay = concurrency, delay
        self._hosts: dict[str, Turnstile] = {}

    def __getitem__(self, url: str) -> Turnstile:
        host = urlsplit(url).hostname or ""
        if host not in self._hosts:
            self._hosts[host] = Turnstile(self._concurrency, self._delay)
        return self._hosts[host]


class PoliteDownloadHandler(HTTP11DownloadHandler):
    """Scrapy's HTTP client behind the turnstiles; the time limit of a request begins when it has passed."""

    async def download_request(self, request: Request) -> Response:
        """Download once the host's turnstile lets the request pass."""
        spider: SiteSpider = self._crawler.spider  # type: ignore[assignment]
        async with spider.turnstiles[request.url]:
            return await super().download_request(request)
