"""Main text by trafilatura (1.11, the version that datatrove is bound to)."""

from typing import Any

import trafilatura
from htmldate import find_date
from trafilatura.metadata import examine_meta, extract_license, extract_meta_json, extract_title
from trafilatura.utils import load_html

from tasks.extractors import Extraction, Extractor, Options


def make(options: Options) -> Extractor:
    """Return the extractor.

    `deduplicate` stays off: its cache of earlier pages makes the text of a page depend on those before it.
    """

    def extract(html: str, url: str) -> Extraction:
        tree = load_html(html)
        if tree is None:
            return Extraction("")
        described = Extraction("")
        if options.metadata:
            try:
                described = _described(tree, url, options)
            except Exception as error:  # text without a title is better than no text
                described.metadata["metadata_error"] = type(error).__name__
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
            with_metadata=False,
        )
        if found is not None:
            described.text = "\n".join(part for part in (found.get("text"), found.get("comments")) if part)
        return described

    return extract


def _described(tree: Any, url: str, options: Options) -> Extraction:
    """Find title, date, language and licence; trafilatura's own way looks for authors and tags too, at twice the cost.

    Dates are bounded by `latest_date` and not, as trafilatura does, by today: a page has the same date on any day.
    """
    document = extract_meta_json(tree, examine_meta(tree))
    if document.title is None:
        document.title = extract_title(tree)
    document.date = find_date(
        tree, extensive_search=False, original_date=True, url=document.url or url, max_date=options.latest_date
    )
    document.license = extract_license(tree)
    document.clean_and_trim()
    metadata = {"title": document.title, "html_language": tree.get("lang") or tree.get("xml:lang")}
    return Extraction(
        "",
        date=document.date,
        licence=document.license,
        metadata={name: value for name, value in metadata.items() if isinstance(value, str) and value},
    )
