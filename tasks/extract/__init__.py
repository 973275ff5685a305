"""The `extract` step: pages become documents of clean text."""

from tasks.extract.step import ExtractConfig, extract

__all__ = ["ExtractConfig", "extract"]
