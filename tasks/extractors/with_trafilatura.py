"""Main text by trafilatura (1.11, the version that datatrove is bound to)."""

from typing import Any

import trafilatura
from trafilatura.settings import DEFAULT_CONFIG
from trafilatura.utils import load_html

from tasks.extractors import Extraction, Extractor, Options


def make(options: Options) -> Extractor:
    """Return the extractor.

    `deduplicate` stays off: its cache of earlier pages makes the text of a page depend on those before it.  Dates are
    bounded by `latest_date` and not, as trafilatura does, by today, so that a page gives the same date on any day.
    """

    def extract(html: str, url: str) -> Extraction:
        tree = load_html(html)
        if tree is None:
            return Extraction("")
        language = tree.get("lang") or tree.get("xml:lang")
        found: dict[str, Any] | None = trafilatura.bare_extraction(
            tree,
            url=url or None,
            favor_precision=options.focus == "precision",
            favor_recall=options.focus == "recall",
            include_comments=options.comments,
            include_tables=options.tables,
            include_images=False,
            include_links=False,
            deduplicate=False,
            with_metadata=options.metadata,
            date_extraction_params={
                "original_date": True,
                "extensive_search": False,
                "max_date": options.latest_date,
            },
            config=DEFAULT_CONFIG,
        )
        if found is None:
            return Extraction("")
        text = "\n".join(part for part in (found.get("text"), found.get("comments")) if part)
        if not options.metadata:
            return Extraction(text)
        metadata = {"title": found.get("title"), "html_language": language}
        return Extraction(
            text,
            date=found.get("date"),
            licence=found.get("license"),
            metadata={name: value for name, value in metadata.items() if value},
        )

    return extract
