"""English word tokens and sentence counts, exactly those of spaCy's blank English pipeline, ten times as fast.

datatrove's filters call `spacy.blank("en")` on the whole text, once a filter.  spaCy's tokenizer works on one run of
non-white characters (a *chunk* here) at a time, so the tokens of a chunk can be remembered.  The one rule that looks
further is its final pass over special cases (emoticons, abbreviations): a longer match across chunks, itself without
effect, can suppress a match inside one.  So a chunk in which that pass changes anything is never taken from memory: its
line is given to spaCy whole (a line break is a token of its own and no special case contains one).

A chunk of more than `MAX_CHUNK` characters, or with more than `MAX_EDGE` characters of punctuation at an end, is cut
into pieces first: spaCy's time grows with the square of such a chunk.  Here alone the tokens differ from spaCy's.
"""

import re
import sys
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

Ids = npt.NDArray[np.int64]
Value = TypeVar("Value")

MAX_CHUNK: Final = 20_000
"""Characters of one chunk that spaCy is given at once."""

MAX_EDGE: Final = 200
"""Punctuation characters at one end of a chunk that spaCy is made to strip one by one."""

PIECE: Final = 200
"""Characters of a piece of a chunk that is over a limit."""

HASH_BASE: Final = 0x9E3779B97F4A7C15
"""Odd base of the polynomial hash of token characters, modulo 2^64 (the golden ratio's bits; any odd number does)."""

STOP_WORDS: Final = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's stop words (Rae et al. 2021, appendix A1.1)."""

# What one token is to the sentence splitter: an ordinary token, punctuation that ends no sentence, one that ends one.
_ORDINARY: Final = "N"
_PUNCTUATION: Final = "P"
_END: Final = "T"

_CONTEXT: Final = -1
"""Stands instead of the token ids of a chunk whose tokens depend on its neighbours."""

_TRAP: Final = "IS_ALPHA"
_TRAP_SHAPE: Final = "IS_ALPHQ"
"""spaCy fails on the token IS_ALPHA, except on the first one of a process, and datatrove then takes it out of the text.
Here it is always taken out."""

_MEMORY_CHUNKS: Final = 500_000
_MEMORY_CHARACTERS: Final = 32_000_000

_PLAIN: Final = re.compile(r"""([(\["“„«]?)([^\W_]+)([,;:!?)\]"”»]|(?<=[a-z])\.)?""")
_RUNS: Final = re.compile(r"\s+|\S+")
_LONG: Final = re.compile(rf"\S{{{MAX_EDGE + 1},}}")
_EDGES: Final = re.compile(rf"[\W_]{{{MAX_EDGE},}}|.*[\W_]{{{MAX_EDGE},}}\Z", re.DOTALL)


class Vocabulary:
    """The tokens seen so far, numbered from 0, and what the filters ask of each."""

    def __init__(self, punctuation: frozenset[str]) -> None:
        self._punctuation = punctuation
        self._number: dict[str, int] = {}
        self.strings: list[str] = []
        self.characters = 0
        self._length = array("q")
        self._symbol = array("b")
        self._alphabetic = array("b")
        self._stop_word = array("b")
        self._hash = array("Q")

    def add(self, token: str) -> int:
        """Return the number of a token, a new one if it was never seen."""
        number = self._number.get(token)
        if number is None:
            number = self._number[token] = len(self.strings)
            self.strings.append(token)
            self.characters += len(token)
            self._length.append(len(token))
            self._symbol.append(all(character in self._punctuation for character in token))
            self._alphabetic.append(any(character.isalpha() for character in token))
            self._stop_word.append(STOP_WORDS.index(token) if token in STOP_WORDS else -1)
            self._hash.append(polynomial_hash(token))
        return number

    def lengths(self, ids: Ids) -> npt.NDArray[np.int64]:
        """Characters of each token."""
        return np.frombuffer(self._length, np.int64)[ids]

    def symbols(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Whether each token is punctuation alone."""
        return np.frombuffer(self._symbol, np.bool_)[ids]

    def alphabetic(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Whether each token has a letter."""
        return np.frombuffer(self._alphabetic, np.bool_)[ids]

    def stop_words(self, ids: Ids) -> npt.NDArray[np.int8]:
        """Position of each token in STOP_WORDS, or -1."""
        return np.frombuffer(self._stop_word, np.int8)[ids]

    def hashes(self, ids: Ids) -> npt.NDArray[np.uint64]:
        """Polynomial hash of each token."""
        return np.frombuffer(self._hash, np.uint64)[ids]


def polynomial_hash(token: str) -> int:
    """Hash characters c0 c1 … to the sum of (code + 1) * HASH_BASE^position, modulo 2^64."""
    value, power = 0, 1
    for character in token:
        value = (value + (ord(character) + 1) * power) & 0xFFFFFFFFFFFFFFFF
        power = (power * HASH_BASE) & 0xFFFFFFFFFFFFFFFF
    return value


class _Remembered(dict[str, Value]):
    """A dictionary that computes what it does not hold, and the caller stores."""

    def __init__(self, compute: Callable[[str], Value]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, key: str) -> Value:
        return self._compute(key)


class Words:
    """Tokenizes texts; what it remembers changes its speed alone, never its answers."""

    def __init__(self) -> None:
        from datatrove.utils.text import PUNCTUATION_SET

        with _without_torch():
            self._spacy = _English()
        self._punctuation = frozenset(PUNCTUATION_SET)
        self._forget()

    def _forget(self) -> None:
        self.vocabulary = Vocabulary(self._punctuation)
        self._ids: _Remembered[tuple[int, ...]] = _Remembered(lambda chunk: self._learn(chunk)[0])
        self._roles: _Remembered[str] = _Remembered(lambda chunk: self._learn(chunk)[1])
        self._characters = 0

    def _learn(self, chunk: str) -> tuple[tuple[int, ...], str]:
        ids: tuple[int, ...] = (_CONTEXT,)
        roles = "?"
        if (tokens := self._spacy.tokens_of_chunk(chunk)) is not None:
            ids = tuple(self.vocabulary.add(token) for token, _ in tokens)
            roles = "".join(role for _, role in tokens)
        self._ids[chunk] = ids
        self._roles[chunk] = roles
        self._characters += len(chunk)
        return ids, roles

    def tokenize(self, text: str) -> Ids:
        """Return the tokens of a text that are not white space, as numbers in `vocabulary`.

        Numbers hold until the next call: memory that has grown too large is cleared between texts.
        """
        if len(self._ids) > _MEMORY_CHUNKS or self._characters > _MEMORY_CHARACTERS:
            self._forget()
        text = self._without_trap(text)
        ids = self._ids_of_chunks(text.split())
        if ids.size and ids.min() < 0:
            return np.concatenate([self._ids_of_line(line) for line in text.splitlines()])
        return ids

    def _ids_of_chunks(self, chunks: list[str]) -> Ids:
        return np.fromiter(chain.from_iterable(map(self._ids.__getitem__, chunks)), np.int64)

    def _ids_of_line(self, line: str) -> Ids:
        ids = self._ids_of_chunks(line.split())
        if ids.size and ids.min() < 0:
            tokens = self._spacy.tokens(line)
            return np.array([self.vocabulary.add(token) for token, _ in tokens if not token.isspace()], np.int64)
        return ids

    def sentences(self, line: str) -> int:
        """Count the sentences of one line as spaCy's sentencizer does; 1 for an empty line, as datatrove has it."""
        line = self._without_trap(line)
        chunks = line.split()
        if line == " ".join(chunks):
            roles = "".join(map(self._roles.__getitem__, chunks))
        else:
            roles = "".join(self._roles_of_runs(line))
        if "?" in roles:
            roles = "".join(role for _, role in self._spacy.tokens(line))
        # A sentence starts at the first ordinary token after an end mark, whatever punctuation lies between.
        return 1 + roles.replace(_PUNCTUATION, "").count(_END + _ORDINARY)

    def _roles_of_runs(self, line: str) -> Iterator[str]:
        """Roles in a line in which more than single spaces separate chunks: spaCy makes that a token."""
        for run in _RUNS.findall(line):
            if not run.isspace():
                yield self._roles[run]
            elif run != " ":
                yield _ORDINARY

    def _without_trap(self, text: str) -> str:
        if _TRAP not in text:
            return text
        tokens = self._spacy.tokens(text.replace(_TRAP, _TRAP_SHAPE))
        return text.replace(_TRAP, "") if any(token == _TRAP_SHAPE for token, _ in tokens) else text


class _English:
    """spaCy's blank English tokenizer, a twin of it without its last pass, and the end marks of its sentencizer."""

    def __init__(self) -> None:
        import spacy
        from spacy.lang.lex_attrs import is_punct
        from spacy.pipeline import Sentencizer

        self._nlp: Language = spacy.blank("en")
        # spaCy declares any callable here; of English it is its compiled Tokenizer, which carries no types.
        tokenizer: Any = self._nlp.tokenizer
        # Of every token that it has not met spaCy would note some twenty facts; nothing here asks for them.
        tokenizer.vocab.lex_attr_getters = {}
        self._is_punctuation = lru_cache(1 << 16)(is_punct)
        self._tokenizer: Callable[[str], Doc] = tokenizer
        self._end_marks = frozenset(Sentencizer.default_punct_chars)
        prefixes = _Switch(tokenizer.prefix_search, nothing=None)
        suffixes = _Switch(tokenizer.suffix_search, nothing=None)
        infixes = _Switch(tokenizer.infix_finditer, nothing=())
        # spaCy decides while special cases are added, by whether the affix rules touch them, which of them its last
        # pass looks for: with the rules switched off meanwhile, none.
        self._affixes_only: Callable[[str], Doc] = type(tokenizer)(
            self._nlp.vocab,
            rules=tokenizer.rules,
            prefix_search=prefixes,
            suffix_search=suffixes,
            infix_finditer=infixes,
            token_match=tokenizer.token_match,
            url_match=tokenizer.url_match,
        )
        for switch in (prefixes, suffixes, infixes):
            switch.on = True
        self._special = frozenset(tokenizer.rules)
        mixed = [rule for rule in self._special if any(map(str.isspace, rule)) and not rule.isspace()]
        assert not mixed, f"special cases of spaCy that span white space: {mixed}"

    def tokens_of_chunk(self, chunk: str) -> list[tuple[str, str]] | None:
        """Return (token, role) of a chunk, or None if they depend on the chunks beside it."""
        if (plain := _PLAIN.fullmatch(chunk)) and (tokens := self._plain_tokens(chunk, *plain.groups())):
            return tokens
        if _is_costly(chunk):
            return self.tokens(chunk)
        with self._nlp.memory_zone():
            doc = self._tokenizer(chunk)
            if [token.text for token in doc] != [token.text for token in self._affixes_only(chunk)]:
                return None
            return self._texts_and_roles(doc)

    def _plain_tokens(self, chunk: str, opening: str, core: str, mark: str | None) -> list[tuple[str, str]] | None:
        """Tokens of letters or digits with at most one mark on each side, where spaCy need not be asked.

        Its rules strip these marks from anything, and touch letters or ASCII digits alone in no script; a special case
        would have to be the chunk or a part of it.
        """
        if not (core.isalpha() or (core.isascii() and core.isdigit())):
            return None
        if not self._special.isdisjoint((chunk, core, opening + core, core + (mark or ""))):
            return None
        return [(part, self._role(part)) for part in (opening, core, mark) if part]

    def tokens(self, text: str) -> list[tuple[str, str]]:
        """Return (token, role) of all tokens of a text, those of white space included."""
        tokens: list[tuple[str, str]] = []
        known: dict[str, list[tuple[str, str]]] = {}
        for part in _affordable_parts(text):
            if part not in known:
                with self._nlp.memory_zone():
                    known[part] = self._texts_and_roles(self._tokenizer(part))
            tokens += known[part]
        return tokens

    def _texts_and_roles(self, doc: "Doc") -> list[tuple[str, str]]:
        return [(token.text, self._role(token.text)) for token in doc]

    def _role(self, token: str) -> str:
        if token in self._end_marks:
            return _END
        return _PUNCTUATION if self._is_punctuation(token) else _ORDINARY


def _is_costly(chunk: str) -> bool:
    return len(chunk) > MAX_EDGE and (len(chunk) > MAX_CHUNK or _EDGES.match(chunk) is not None)


def _affordable_parts(text: str) -> Iterator[str]:
    """Cut a text where one of its chunks is over a limit, and that chunk into pieces; mostly there is none."""
    start = 0
    for chunk in _LONG.finditer(text):
        if _is_costly(chunk.group()):
            yield text[start : chunk.start()]
            for piece in range(chunk.start(), chunk.end(), PIECE):
                yield text[piece : min(piece + PIECE, chunk.end())]
            start = chunk.end()
    yield text[start:]


class _Switch:
    """A search of spaCy's that finds nothing until it is switched on."""

    def __init__(self, search: Callable[[str], Any], nothing: Any) -> None:
        self._search = search
        self._nothing = nothing
        self.on = False

    def __call__(self, text: str) -> Any:
        return self._search(text) if self.on else self._nothing


@contextmanager
def _without_torch() -> Iterator[None]:
    """Import spaCy without torch, which it imports where it can: seconds of every worker, and nothing here needs it."""
    absent = "torch" not in sys.modules and "thinc" not in sys.modules
    if absent:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules["torch"]
