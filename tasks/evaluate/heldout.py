"""The held-out text that a model is judged on: the first so many bytes of the validation documents, in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from infra.manifests import File
from tasks.documents import iter_rows


@dataclass(frozen=True)
class HeldOut:
    """A validation document, the last one possibly cut short."""

    text: str
    source: str
    bytes: int
    """UTF-8 bytes of the text."""


def held_out(files: Sequence[File], max_bytes: int) -> Iterator[HeldOut]:
    """Yield documents in order until `max_bytes` of text; the one that crosses the limit is cut between characters."""
    left = max_bytes
    for file in files:
        for row in iter_rows(file, ["text", "source"], batch_rows=16):
            data = row["text"].encode()
            if len(data) > left:
                data = data[:left]
                text = data.decode(errors="ignore")
                if text:
                    yield HeldOut(text, row["source"], len(text.encode()))
                return
            if data:
                yield HeldOut(row["text"], row["source"], len(data))
                left -= len(data)
            if not left:
                return
