"""From one page to its text: the extractors, and the process in which they run.

Nothing here imports the rest of Millrace but `tasks.charsets`: the child process starts with this package alone, and
must start fast.  An extractor is a function from HTML and URL to an `Extraction`; `load` makes it by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

ExtractorName = Literal["trafilatura", "resiliparse"]
Focus = Literal["balanced", "precision", "recall"]


@dataclass
class Extraction:
    """What an extractor finds in a page: its text ("" if none), and what the page says about itself."""

    text: str
    date: str | None = None
    licence: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What an extractor is asked for; `latest_date` is ISO 8601."""

    extractor: ExtractorName
    focus: Focus
    tables: bool
    comments: bool
    metadata: bool
    latest_date: str


Extractor = Callable[[str, str], Extraction]


def load(options: Options) -> Extractor:
    """Import the extractor's package and return the function (HTML, URL) -> Extraction.

    Raises ImportError where the package, or one that it needs, is missing.
    """
    if options.extractor == "trafilatura":
        from tasks.extractors.with_trafilatura import make
    else:
        from tasks.extractors.with_resiliparse import make
    return make(options)
