"""What kind of vocabulary is made: one class a kind, which `tokenizer.kind` chooses."""

import re
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infra.steps import Execution, Gate, StepConfig

END_OF_DOCUMENT: Final = "<|endoftext|>"

CHATML_TOKENS: Final = ("<|im_start|>", "<|im_end|>")

_FORM: Final = re.compile(r"<\|[^\s<|>]+\|>|<[^\s<|>]+>|\[[^\s\[\]]+\]")
_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")

ROLES: Final = ("bos_token", "pad_token", "mask_token", "cls_token", "sep_token", "unk_token")
"""Fields that name a special token, called as transformers calls them."""


class Normalisation(BaseModel):
    """How text is changed before it is cut; what is changed here does not come back when tokens are decoded."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    unicode: Literal["nfc", "nfd", "nfkc", "nfkd"] | None = None
    """Unicode normalisation form; null for none. NFKC and NFKD also make ligatures, wide letters and the like plain."""

    lowercase: bool = False
    """Make all letters small ones."""

    strip_accents: bool = False
    """Remove combining marks: é becomes e."""


class _Vocabulary(StepConfig):
    """What every kind has: special tokens."""

    special_tokens: tuple[str, ...] = ()
    """Further special tokens beside `<|endoftext|>`, of the form `<|name|>`, `<name>` or `[NAME]`."""

    bos_token: str | None = None
    """Special token that transformers puts first where it is told to; `<|endoftext|>` where it is null."""

    pad_token: str | None = None
    """Special token that fills sequences up."""

    mask_token: str | None = None
    """Special token that stands for what a masked language model is to guess."""

    cls_token: str | None = None
    """Special token whose state stands for a whole sequence."""

    sep_token: str | None = None
    """Special token between two sequences."""

    sentinels: int = Field(default=0, ge=0, le=10_000)
    """Adds so many special tokens `<extra_id_0>`, `<extra_id_1>`, … that stand for the spans which T5's denoising takes
    out of a text; T5 has 100."""

    chat_template: str | None = None
    """`chatml` (adds `<|im_start|>` and `<|im_end|>`), or a Jinja template of your own, for transformers'
    apply_chat_template; the special tokens that your own uses must stand in special_tokens."""

    pad_vocab_to_multiple_of: int = Field(default=1, ge=1, le=65_536)
    """Adds unused special tokens until the vocabulary is a multiple of this, which matrix units are faster with."""

    gate: Annotated[Gate, Execution] = Gate(max_dropped=0.0, max_quarantined=0.0, min_out=1)
    """Nothing may be lost here."""

    @property
    def special(self) -> tuple[str, ...]:
        """All special tokens that the vocabulary adds to what it learns, `<|endoftext|>` first."""
        named = [getattr(self, role, None) for role in ROLES]
        chat = CHATML_TOKENS if self.chat_template == "chatml" else ()
        return (
            END_OF_DOCUMENT,
            *(token for token in named if token),
            *self.special_tokens,
            *chat,
            *self.sentinel_tokens,
        )

    @property
    def sentinel_tokens(self) -> tuple[str, ...]:
        """The special tokens that stand for spans."""
        return tuple(f"<extra_id_{number}>" for number in range(self.sentinels))

    @model_validator(mode="after")
    def _special_tokens_cannot_be_text(self) -> Self:
        named = {role: token for role in ROLES if (token := getattr(self, role, None))}
        given = [*named.items(), *(("special_tokens", token) for token in self.special_tokens)]
        seen = dict.fromkeys(self.sentinel_tokens, "sentinels")
        seen |= dict.fromkeys(CHATML_TOKENS, "chat_template") if self.chat_template == "chatml" else {}
        for field, token in given:
            if token == END_OF_DOCUMENT or _BYTE.fullmatch(token) or not _FORM.fullmatch(token):
                raise ValueError(
                    f"{field}: {token!r} must have the form <|name|>, <name> or [NAME] and not be {END_OF_DOCUMENT} "
                    "or the name of a byte"
                )
            if token in seen:
                raise ValueError(f"{field}: {token!r} is already there, from {seen[token]}; name it once")
            seen[token] = field
        return self

    @model_validator(mode="after")
    def _chat_template_is_jinja(self) -> Self:
        if self.chat_template not in (None, "chatml"):
            from jinja2 import Environment, TemplateSyntaxError

            # transformers marks what the assistant says with a block of its own, which plain jinja2 does not know
            template = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", str(self.chat_template))
            try:
                Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
            except TemplateSyntaxError as error:
                raise ValueError(f"chat_template: neither chatml nor a Jinja template: {error}") from error
        return self


class CharactersConfig(_Vocabulary):
    """One token a character of all parts of the corpus, ids in the order of code points, as nanoGPT does it."""

    kind: Literal["characters"]
    """One token a character of the corpus."""


class _Learned(_Vocabulary):
    """A vocabulary of subwords, learned from a sample of train/."""

    vocab_size: int = Field(default=32_768, ge=1, le=1 << 24)
    """Tokens at most, special ones included (before pad_vocab_to_multiple_of); fewer where the corpus is too small."""

    require_vocab_size: bool = False
    """Stop where the corpus is too small for vocab_size; otherwise a warning says how many tokens there are."""

    normalisation: Normalisation = Normalisation()
    """How text is changed before it is cut."""

    split_digits: bool = False
    """Make every digit a token of its own."""

    max_bytes: int = Field(default=2_000_000_000, ge=1)
    """Bytes of UTF-8 to train on: from a larger corpus whole documents are sampled by a hash of seed and id."""

    max_bytes_by_source: dict[str, int] = Field(default={})
    """Bytes of a source at most, by its name."""

    weights: dict[str, float] = Field(default={})
    """How much more, or less, of a source is sampled than its size asks for; 1 where it is not named, 0 for nothing."""

    temperature: float = Field(default=1.0, gt=0)
    """Sources are sampled in proportion to weight x bytes ** (1 / temperature): above 1 small ones get more. No
    document is taken twice: the sample is as large as these proportions allow."""

    seed: int = 0
    """Chooses that sample."""

    reference: Annotated[str, Execution] = "gpt2"
    """Tokenizer that the report compares with: a local folder or tokenizer.json, or a name on the Hugging Face hub that
    is looked for in the local cache; nothing is downloaded."""

    @model_validator(mode="after")
    def _sampling(self) -> Self:
        for field, values in (("max_bytes_by_source", self.max_bytes_by_source), ("weights", self.weights)):
            for name, value in values.items():
                if not 0 <= value < float("inf"):
                    raise ValueError(f"{field}: {value} for {name!r} is not a number from 0 up")
        return self

    def _require_room(self, least: int, what: str) -> None:
        if self.vocab_size < least:
            raise ValueError(f"vocab_size: {self.vocab_size} is less than the {least} of {what}")


class _Bytes(_Learned):
    """Kinds that may cut text by a regular expression and then look at its bytes."""

    regex: str | None = None
    """A regular expression (Oniguruma) of your own that cuts text instead of pre_tokenizer, applied to one line at a
    time; every match is a piece, and so is what lies between matches."""

    @model_validator(mode="after")
    def _regex_compiles(self) -> Self:
        if self.regex is not None:
            from tokenizers import Regex

            try:
                Regex(self.regex)
            except Exception as error:  # what tokenizers raises has no class of its own
                raise ValueError(f"regex: {self.regex!r} is no regular expression: {error}") from error
        return self


class BpeConfig(_Bytes):
    """Byte-level byte-pair encoding, GPT-2's and GPT-4's kind: any text can be encoded and comes back as it was."""

    kind: Literal["bpe"]
    """Byte-level byte-pair encoding."""

    pre_tokenizer: Literal["gpt2", "gpt4", "whitespace"] = "gpt4"
    """How text is cut into the pieces within which bytes merge: GPT-2's regular expression, GPT-4's (cl100k), or words
    with the space before them."""

    min_frequency: int = Field(default=2, ge=1)
    """Pairs that occur more rarely are not merged."""

    max_token_length: int | None = Field(default=None, ge=2)
    """Bytes of a token at most; null for no limit."""

    @model_validator(mode="after")
    def _all_bytes_fit(self) -> Self:
        self._require_room(256 + len(self.special), "all bytes and special tokens")
        return self


class WordPieceConfig(_Learned):
    """BERT's kind: words at white space, punctuation apart, the longest known piece first, `##` before what continues.

    What is decoded has one space between words and around punctuation.  A word with a character that the vocabulary
    lacks, or of more than max_word_length characters, is `unk_token`; the report and the tokens' index count them.
    """

    kind: Literal["wordpiece"]
    """WordPiece."""

    normalisation: Normalisation = Normalisation(unicode="nfc")
    """How text is changed before it is cut."""

    unk_token: str = "[UNK]"
    """Special token that stands for a word that the vocabulary cannot spell."""

    min_frequency: int = Field(default=2, ge=1)
    """Pairs that occur more rarely are not merged."""

    max_token_length: int | None = Field(default=None, ge=2)
    """Characters of a token at most; null for no limit."""

    limit_alphabet: int = Field(default=1_000, ge=1)
    """Characters that the vocabulary knows at most, the most frequent ones; each takes two tokens."""

    max_word_length: int = Field(default=100, ge=1)
    """Characters of a word at most."""

    @model_validator(mode="after")
    def _special_tokens_fit(self) -> Self:
        self._require_room(len(self.special) + 2, "special tokens and one character")
        return self


class UnigramConfig(_Bytes):
    """Kudo's unigram language model, sentencepiece's and T5's kind.

    `metaspace` writes a space as U+2581 before the word that follows, without adding one at the beginning; a character
    that the vocabulary lacks becomes a token a byte, so nothing is lost but normalisation, and U+2581 comes back as a
    space.  The other ways to cut work on bytes, as `bpe` does, and lose nothing.
    """

    kind: Literal["unigram"]
    """Unigram language model."""

    normalisation: Normalisation = Normalisation(unicode="nfc")
    """How text is changed before it is cut."""

    pre_tokenizer: Literal["metaspace", "gpt2", "gpt4", "whitespace"] = "metaspace"
    """How text is cut into the words within which pieces lie."""

    unk_token: str = "<|unk|>"
    """Special token that `transformers` wants such a vocabulary to have; no text gives it."""

    max_token_length: int = Field(default=16, ge=1, le=128)
    """Characters of a token at most (bytes, unless pre_tokenizer is metaspace)."""

    limit_alphabet: int = Field(default=1_000, ge=1)
    """Characters that have a token of their own at most, the most frequent ones beside ASCII; only for metaspace."""

    @property
    def of_bytes(self) -> bool:
        """Whether pieces are made of bytes."""
        return self.regex is not None or self.pre_tokenizer != "metaspace"

    @model_validator(mode="after")
    def _all_bytes_fit(self) -> Self:
        characters = 0 if self.of_bytes else 128
        what = "all bytes and special tokens" if self.of_bytes else "all bytes, ASCII and special tokens"
        self._require_room(256 + characters + len(self.special), what)
        return self


class ModelVocabulary(StepConfig):
    """The vocabulary of the model that `pretrain.initial_weights` names: nothing is made, training goes on with it."""

    kind: Literal["model"]
    """That of a model."""


LearnedConfig = BpeConfig | WordPieceConfig | UnigramConfig

TokenizerConfig = Annotated[BpeConfig | WordPieceConfig | UnigramConfig | CharactersConfig, Field(discriminator="kind")]

AnyTokenizerConfig = Annotated[
    BpeConfig | WordPieceConfig | UnigramConfig | CharactersConfig | ModelVocabulary, Field(discriminator="kind")
]
"""What a recipe may ask for."""
