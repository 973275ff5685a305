"""How many bytes of text each token of a vocabulary stands for, from its tokenizer.json."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def token_bytes(tokenizer_json: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return, for each token id, how many UTF-8 bytes of text it stands for: none for a special token.

    Of a WordPiece vocabulary the space before a word counts with the word: an estimate, since the tokens do not
    say what white space there was.
    """
    spec = json.loads(tokenizer_json.read_bytes())
    special = {t["id"] for t in spec["added_tokens"] if t["special"]}
    vocabulary = spec["model"]["vocab"]
    if spec["model"]["type"] == "Unigram":  # a list of (token, score)
        vocabulary = {token: number for number, (token, _) in enumerate(vocabulary)}
    vocabulary = {**vocabulary, **{t["content"]: t["id"] for t in spec["added_tokens"]}}
    bytes_of = _bytes_of(spec)
    table = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for text, number in vocabulary.items():
        if number not in special:
            table[number] = bytes_of(text)
    return table


def _bytes_of(spec: dict[str, Any]) -> Callable[[str], int]:
    """Return how many bytes of text a token of the vocabulary of a tokenizer.json writes."""
    if (spec["decoder"] or {}).get("type") == "ByteLevel":
        return len  # each byte is written as one character
    if spec["model"]["type"] == "WordPiece":
        prefix = spec["model"]["continuing_subword_prefix"]
        return lambda text: len(text.removeprefix(prefix).encode()) + (not text.startswith(prefix))
    if spec["model"].get("byte_fallback"):
        return lambda text: 1 if re.fullmatch("<0x[0-9A-F]{2}>", text) else len(text.replace("\u2581", " ").encode())
    return lambda text: len(text.encode())
