"""What a vocabulary does on the text it was made for."""

from typing import Any, Final

import numpy as np

from tasks.tokenizer.encoding import DocumentEncoder
from tasks.tokenizer.sampling import Sample

MEASURED_BYTES: Final = 8 * 1024 * 1024
"""Bytes of training text that the report is measured on, at most (but at least one document)."""

EXAMPLES: Final = 20
"""Tokens shown in a list."""


def measure(encoder: DocumentEncoder, train: Sample) -> dict[str, Any]:
    """Encode a sample of the training documents; return bytes a token, over all and by source, and what goes unused."""
    sample = train.at_most(MEASURED_BYTES)
    used = np.zeros(encoder.vocab_size, np.int64)
    sources: dict[str, dict[str, int]] = {}
    keyed = (((source, len(text.encode())), text) for source, text in sample)
    for (source, size), ids in encoder.encode(keyed):
        used += np.bincount(ids, minlength=encoder.vocab_size)
        counts = sources.setdefault(source, {"documents": 0, "bytes": 0, "tokens": 0})
        counts["documents"] += 1
        counts["bytes"] += size
        counts["tokens"] += len(ids)
    special = {id for id, token in encoder.tokenizer.get_added_tokens_decoder().items() if token.special}
    unused = [int(id) for id in np.flatnonzero(used == 0) if int(id) not in special]
    texts = {id: encoder.text_of(id) for id in range(encoder.vocab_size) if id not in special}
    return {
        "measured_on": {"documents": sample.documents, "bytes": sample.bytes, "tokens": int(used.sum())},
        "bytes_per_token": _ratio(sample.bytes, int(used.sum())),
        "sources": {
            name: counts | {"bytes_per_token": _ratio(counts["bytes"], counts["tokens"])}
            for name, counts in sorted(sources.items())
        },
        "unused_tokens": len(unused),
        "unused_examples": [texts[id] for id in unused[:EXAMPLES]],
        "longest_tokens": sorted(texts.values(), key=lambda text: (-len(text), text))[:EXAMPLES],
    }


def _ratio(bytes: int, tokens: int) -> float | None:
    return round(bytes / tokens, 4) if tokens else None
