"""Let a network fill in what is missing of a text: hidden tokens (an encoder), spans that were taken out (T5's kind).

fill(model, "The [MASK] turns the wheel.")                     an encoder's prompt, with the vocabulary's mask token
fill(model, "The <extra_id_0> turns <extra_id_1> wheel.")      an encoder-decoder's, with its sentinels in order
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infra.errors import UserError
from models.generation import LanguageModel
from models.objectives import Vocabulary
from models.transformer import Cache

MOST_TOKENS = 64
"""Tokens written for the spans of a text at most, beside what the sentinels themselves take."""


@dataclass(frozen=True)
class Filled:
    """A text with something missing, and the text that it became."""

    prompt: str
    text: str


def marks(model: LanguageModel, vocabulary: Vocabulary) -> dict[str, int]:
    """Return what stands for something missing in a prompt of this model, with its id."""
    ids = vocabulary.sentinels.tolist()
    if model.network.cfg.family == "encoder":
        ids = [] if vocabulary.mask is None else [vocabulary.mask]
    return {str(model.tokenizer.id_to_token(number)): number for number in ids}


def fill(model: LanguageModel, vocabulary: Vocabulary, prompt: str) -> Filled:
    """Fill in a prompt with the likeliest tokens.

    Raises UserError where nothing is missing in it, a sentinel stands twice, or it is longer than the model reads.
    """
    known, two = marks(model, vocabulary), model.network.cfg.family == "encoder_decoder"
    pattern = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
    parts = re.split(f"({pattern})", prompt) if known else [prompt]
    if len(parts) == 1:
        first = next(iter(known), "a mask token, which its vocabulary lacks")
        raise UserError(f"{prompt!r}: nothing is missing in it; write {first} where the model is to fill in")
    tokens: list[int] = []
    for part, follows in zip(parts, [*parts[1:], ""], strict=True):
        # The space before a word is part of its token.
        tokens += [known[part]] if part in known else model.encode(part.rstrip(" ") if follows in known else part)
    spans = [token for token in tokens if vocabulary.special[token]] if two else []
    if len(set(spans)) < len(spans):
        raise UserError(f"{prompt[:40]!r}…: names a sentinel twice; number what is missing: {', '.join([*known][:2])}")
    # An end token follows what an encoder-decoder reads; some encoders of others read a token before and after as well.
    room = model.sequence_length - (1 if two else 2 if model.start_token is not None else 0)
    if len(tokens) > room:
        raise UserError(f"{prompt[:40]!r}…: has {len(tokens)} tokens, the model reads {room}")
    return Filled(prompt, model.tokenizer.decode(filled(model, vocabulary, tokens)))


def filled(model: LanguageModel, vocabulary: Vocabulary, tokens: Sequence[int]) -> list[int]:
    """Return tokens with what is missing filled in, sentinels replaced by spans."""
    never_V = torch.from_numpy(vocabulary.special)
    if model.network.cfg.family == "encoder":
        return _masks(model, vocabulary, list(tokens), never_V)
    spans = _spans(model, vocabulary, list(tokens), never_V)
    return [each for token in tokens for each in spans.get(token, [] if vocabulary.special[token] else [token])]


@torch.inference_mode()
def _masks(model: LanguageModel, vocabulary: Vocabulary, tokens: list[int], never_V: Tensor) -> list[int]:
    if model.start_token is None:
        logits_TV = model.network.logits(torch.tensor([tokens]))[0]
    else:
        logits_TV = model.network.logits(torch.tensor([[model.start, *tokens, vocabulary.end]]))[0, 1:-1]
    best = logits_TV.masked_fill(never_V, -torch.inf).argmax(dim=-1).tolist()
    return [guess if token == vocabulary.mask else token for token, guess in zip(tokens, best, strict=True)]


@torch.inference_mode()
def _spans(model: LanguageModel, vocabulary: Vocabulary, tokens: list[int], never_V: Tensor) -> dict[int, list[int]]:
    """Return what the model writes behind each sentinel of the source, in their order; ends where the model does."""
    wanted = [token for token in tokens if token in set(vocabulary.sentinels.tolist())]
    source_BS = torch.tensor([[*tokens, vocabulary.end]])
    spans: dict[int, list[int]] = {}
    cache, token = Cache(), vocabulary.start
    for _ in range(min(MOST_TOKENS + len(wanted), model.sequence_length - 1)):
        # What may come next: text, the sentinel that is next in order, and the end once there is none.
        following = wanted[len(spans)] if len(spans) < len(wanted) else vocabulary.end
        barred_V = never_V.clone() if spans else torch.ones_like(never_V)
        barred_V[following] = False
        logits_V = model.network.logits(torch.tensor([[token]]), cache, source_BS=source_BS)[0, -1]
        token = int(logits_V.masked_fill(barred_V, -torch.inf).argmax())
        if token == vocabulary.end:
            break
        if token == following:
            spans[token] = []
        else:
            spans[next(reversed(spans))].append(token)
    return {token: spans.get(token, []) for token in wanted}
