"""The `crawl` step: a website becomes WARC files, the same pages whatever the timing, the kills and the concurrency."""

from tasks.crawl.step import CrawlConfig, crawl

__all__ = ["CrawlConfig", "crawl"]
