"""The `ingest` step: raw files of any kind become pages, and whatever does not is accounted for."""

from tasks.ingest.sources import CrawlPages, FilesSource, WarcSource, expand_paths
from tasks.ingest.step import IngestConfig, ingest

__all__ = ["CrawlPages", "FilesSource", "IngestConfig", "WarcSource", "expand_paths", "ingest"]
