"""What an objective needs to know of a vocabulary: its special tokens, and at which tokens words begin."""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

SENTINEL: Final = "<extra_id_{}>"
"""Name of the n-th sentinel, from 0, as T5's vocabulary has them."""

_BYTE: Final = re.compile("<0x[0-9A-F]{2}>")
_UNSPACED: Final = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Characters of scripts that put no spaces between words (Thai to Khmer, kana, Han): each token is taken for a word."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a tokenizer, as far as an objective tells them apart."""

    end: int
    """Id of the token that ends a document."""
    mask: int | None
    """Id of the mask token, where there is one."""
    sentinels: NDArray[np.int64]
    """Ids of the sentinels in their order, shape (sentinels,)."""
    special: NDArray[np.bool_]
    """Whether a token stands for no text, shape (vocabulary,)."""
    begins: NDArray[np.bool_]
    """Whether a token begins a word, whatever is before it, shape (vocabulary,)."""
    closes: NDArray[np.bool_]
    """Whether what follows a token begins a word, shape (vocabulary,)."""
    start_token: int | None = None
    """Id of the token before what is written, where the one that ends a document is not (T5's padding)."""

    @property
    def start(self) -> int:
        """Id of the token before what an encoder-decoder writes."""
        return self.end if self.start_token is None else self.start_token

    def words(self, tokens_BT: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where in its row the word begins that each token is of, shape (B, T)."""
        begins = self.begins[tokens_BT]
        begins[:, 1:] |= self.closes[tokens_BT[:, :-1]]
        begins[:, 0] = True
        place = np.broadcast_to(np.arange(tokens_BT.shape[1]), tokens_BT.shape)
        return np.maximum.accumulate(np.where(begins, place, 0), axis=1)


def read_vocabulary(
    tokenizer_json: Path, special_tokens_map: Path, *, size: int, end: int, start: int | None = None
) -> Vocabulary:
    """Read the files of a tokenizer; `size` may be more than the tokens that it has."""
    spec = json.loads(tokenizer_json.read_bytes())
    named = json.loads(special_tokens_map.read_bytes())
    added = {token["content"]: token["id"] for token in spec["added_tokens"]}
    special = np.ones(size, dtype=np.bool_)
    begins, closes = np.ones(size, dtype=np.bool_), np.ones(size, dtype=np.bool_)
    written = _writing(spec)
    for text, number in _tokens(spec).items():
        special[number] = False
        begins[number], closes[number] = _edges(*written(text))
    for token in spec["added_tokens"]:
        if token["special"]:
            special[token["id"]] = begins[token["id"]] = closes[token["id"]] = True
    sentinels: list[int] = []
    while (name := SENTINEL.format(len(sentinels))) in added:
        sentinels.append(added[name])
    mask = named.get("mask_token")
    name = mask["content"] if isinstance(mask, dict) else mask
    return Vocabulary(end, added.get(name), np.array(sentinels, dtype=np.int64), special, begins, closes, start)


def _tokens(spec: dict[str, Any]) -> dict[str, int]:
    vocabulary = spec["model"]["vocab"]
    if spec["model"]["type"] == "Unigram":  # a list of (token, score)
        return {token: number for number, (token, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _writing(spec: dict[str, Any]) -> Callable[[str], tuple[str, bool]]:
    """Return what says of a token as a vocabulary spells it which text it writes, and whether that goes on a word."""
    if (spec["decoder"] or {}).get("type") == "ByteLevel":
        return lambda token: (_of_bytes(token), False)
    if spec["model"]["type"] == "WordPiece":
        prefix = spec["model"]["continuing_subword_prefix"]
        # Spaces between words are not spelt: what is not marked as going on begins a word.
        return lambda token: (token.removeprefix(prefix), True) if token.startswith(prefix) else (f" {token}", False)
    if spec["model"].get("byte_fallback"):
        return lambda token: (_of_pieces(token), False)
    return lambda token: (token, False)


def _edges(text: str, goes_on: bool) -> tuple[bool, bool]:
    """Tell whether a token with this text begins a word, and whether what follows it does."""
    first, last = text[:1], text[-1:]
    return not (goes_on or _of_word(first)), not _of_word(last)


def _of_word(character: str) -> bool:
    """Tell whether a character is within words: letters, digits, marks, and bytes that are none by themselves."""
    if not character or _UNSPACED.match(character):
        return False
    kind = unicodedata.category(character)
    return kind[0] in "LMN" or kind == "Cs"


def _of_bytes(token: str) -> str:
    """Return the text that a token of a byte-level vocabulary stands for."""
    table = _byte_characters()
    return _text(bytes(table.get(character, 0x80) for character in token))


def _of_pieces(token: str) -> str:
    """Return the text that a token of a vocabulary with names of bytes stands for."""
    return _text(bytes.fromhex(token[3:5])) if _BYTE.fullmatch(token) else token.replace("\u2581", " ")


def _text(data: bytes) -> str:
    """Decode UTF-8; bytes that are none become lone surrogates."""
    return data.decode("utf-8", errors="surrogateescape")


@lru_cache(maxsize=1)
def _byte_characters() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for (openai/gpt-2, encoder.py)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + number): byte for number, byte in enumerate(hidden)}
