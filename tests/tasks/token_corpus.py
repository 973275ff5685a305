"""A small corpus of characters that a tiny model can learn: tokens and tokenizer as the steps before leave them."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from infra.artifacts import Artifact

_WORDS = [
    "the",
    "mill",
    "turns",
    "water",
    "and",
    "stone",
    "grind",
    "corn",
    "into",
    "flour",
    "while",
    "wheels",
    "past",
    "it",
]


@dataclass(frozen=True)
class Corpus:
    """The two inputs of pretrain, and the text that was held out."""

    tokens: Artifact
    tokenizer: Artifact
    held_out: str


def make_corpus(folder: Path, *, characters: int = 60_000, sentinels: int = 0) -> Corpus:
    """Write a text of random words below `folder`, one tenth of it held out.

    With `sentinels` the vocabulary has so many of them, and a mask token.
    """
    chooser = random.Random(7)
    text = " ".join(chooser.choices(_WORDS, k=characters // 4))[:characters]
    tokenizer = _tokenizer(folder / "tokenizer", text, sentinels)
    ids = np.array(tokenizer.encode(text).ids, dtype="<u2")
    cut = len(ids) * 9 // 10
    artifact = Artifact.of(folder / "tokenizer")
    splits = {}
    for name, part in (("train", ids[:cut]), ("validation", ids[cut:])):
        (folder / "tokens" / name).mkdir(parents=True)
        np.append(part, 0).astype("<u2").tofile(folder / "tokens" / name / "00000.bin")
        splits[name] = {"tokens": len(part) + 1, "documents": 1, "bytes": len(part)}
    index = {
        "dtype": "uint16",
        "vocab_size": tokenizer.get_vocab_size(),
        "eod": 0,
        "tokenizer": artifact.content,
        "splits": splits,
    }
    (folder / "tokens" / "index.json").write_text(json.dumps(index))
    return Corpus(Artifact.of(folder / "tokens"), artifact, text[cut:])


def _tokenizer(folder: Path, text: str, sentinels: int) -> Tokenizer:
    vocabulary = {"<|endoftext|>": 0, **{c: i + 1 for i, c in enumerate(sorted(set(text)))}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    further = ["[MASK]", *(f"<extra_id_{number}>" for number in range(sentinels))] if sentinels else []
    tokenizer.add_special_tokens(["<|endoftext|>", *further])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "special_tokens_map.json").write_text(json.dumps({"mask_token": "[MASK]"} if sentinels else {}))
    return tokenizer
