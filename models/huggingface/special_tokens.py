"""Which tokens begin, end and fill up texts: read from a folder of transformers, and written into one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.errors import UserError

Json = Mapping[str, Any]


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that a config.json names."""

    end: int
    """Ends a text."""
    start: int | None = None
    """Stands before a text, or before what an encoder-decoder writes, where `end` does not."""
    stop: tuple[int, ...] = ()
    """After these nothing follows either."""
    pad: int | None = None
    """Fills up; `end` where there is none."""
    mask: int | None = None

    @classmethod
    def of_artifact(cls, about: Json, tokenizer: Json, roles: Json) -> "SpecialTokens":
        """Return those of an artifact's config.json, tokenizer.json and special_tokens_map.json."""
        mask, pad = _named(tokenizer, roles, "mask_token"), _named(tokenizer, roles, "pad_token")
        return cls(about["eod"], about.get("start"), tuple(about.get("stop", ())), about.get("pad", pad), mask)

    @classmethod
    def of_folder(
        cls, config: Json, generation: Json, tokenizer: Json, roles: Json, *, family: str, vocab_size: int
    ) -> "SpecialTokens":
        """Return those of a folder of transformers: config.json, generation_config.json, tokenizer.json, and the roles
        of tokens as tokenizer_config.json has them.

        Raises UserError where no file says which token ends a text, or one is none of the vocabulary.
        """
        ends = [*_ids(config.get("eos_token_id")), *_ids(generation.get("eos_token_id"))]
        ends = ends or [number for name in ("[SEP]", "</s>", "<|endoftext|>") for number in _added(tokenizer, name)[:1]]
        if not ends:
            raise UserError("neither config.json (eos_token_id) nor the tokenizer says which token ends a text")
        pad = next(iter(_ids(config.get("pad_token_id"))), None)
        start: int | None
        if family == "encoder_decoder":
            start = _first(config, generation, "decoder_start_token_id")
            start = pad if start is None else start
        elif family == "encoder":
            start = _before(tokenizer.get("post_processor"))
        else:
            start = _first(config, generation, "bos_token_id")
            start = _named(tokenizer, roles, "bos_token") if start is None else start
        found = cls(ends[0], start if start != ends[0] else None, tuple(sorted({*ends} - {ends[0]})), pad)
        if wrong := [number for number in (*ends, start, pad) if number is not None and number >= vocab_size]:
            raise UserError(f"its config.json names the token {wrong[0]}, of a vocabulary of {vocab_size}")
        return found

    def about(self) -> dict[str, Any]:
        """Return what an artifact's config.json says of them."""
        named = {"start": self.start, "stop": list(self.stop) or None, "pad": self.pad}
        return {"eod": self.end, **{name: value for name, value in named.items() if value is not None}}

    def ids(self, family: str) -> dict[str, Any]:
        """Return what config.json and generation_config.json of transformers say of them."""
        start = self.end if self.start is None else self.start
        ids: dict[str, Any] = {
            "bos_token_id": start,
            "eos_token_id": [self.end, *self.stop] if self.stop else self.end,
            "pad_token_id": self.end if self.pad is None else self.pad,
        }
        return ids | ({"decoder_start_token_id": start} if family == "encoder_decoder" else {})


def _ids(value: Any) -> list[int]:
    """Return the tokens that a key names; -1, which the first releases of some models have, names none."""
    found = [] if value is None else value if isinstance(value, list) else [value]
    if wrong := [each for each in found if type(each) is not int]:
        raise UserError(f"its config.json names the token {wrong[0]!r}, which is no whole number")
    return [number for number in found if number >= 0]


def _first(config: Json, generation: Json, name: str) -> int | None:
    return next(iter([*_ids(config.get(name)), *_ids(generation.get(name))]), None)


def _added(tokenizer: Json, name: Any) -> list[int]:
    content = name.get("content") if isinstance(name, dict) else name
    return [int(token["id"]) for token in tokenizer.get("added_tokens") or () if token["content"] == content]


def _named(tokenizer: Json, roles: Json, role: str) -> int | None:
    return next(iter(_added(tokenizer, roles.get(role))), None)


def _before(processor: Any) -> int | None:
    """Return the token that a tokenizer's post-processor puts before a text."""
    if not isinstance(processor, dict):
        return None
    if processor["type"] == "Sequence":
        return next((found for each in processor["processors"] if (found := _before(each)) is not None), None)
    if processor["type"] in ("BertProcessing", "RobertaProcessing"):
        return int(processor["cls"][1])
    if processor["type"] == "TemplateProcessing" and (special := processor["single"][0].get("SpecialToken")):
        return int(processor["special_tokens"][special["id"]]["ids"][0])
    return None
