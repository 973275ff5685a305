"""Tokens drawn at random, and a tokenizer that could have made them: what the benchmarks of training train on."""

import json
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models

from infra.artifacts import Artifact


def synthetic_tokens(folder: Path, *, vocab_size: int, tokens: int, shards: int = 1) -> tuple[Artifact, Artifact]:
    """Write `tokens` tokens of training text in `shards` shards below `folder`; return tokens and tokenizer.

    Zipf's law over the vocabulary, so that a network that learns has something to learn; a small validation split.
    """
    names = folder / "tokenizer"
    names.mkdir(parents=True)
    vocabulary = {"<|endoftext|>": 0, **{f"w{number}": number for number in range(1, vocab_size)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(names / "tokenizer.json"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        (names / name).write_text("{}")
    made = Artifact.of(names)
    draw = np.random.default_rng(0)
    splits = {}
    for split, count, files in (("train", tokens, shards), ("validation", 4096, 1)):
        (folder / "tokens" / split).mkdir(parents=True)
        for number in range(files):
            share = count // files
            ids = np.minimum(np.exp(draw.random(share) * np.log(vocab_size)), vocab_size - 1)
            ids.astype("<u2").tofile(folder / "tokens" / split / f"{number:05d}.bin")
        total = count // files * files
        splits[split] = {"tokens": total, "documents": 1, "bytes": 4 * total}
    index = {"dtype": "uint16", "vocab_size": vocab_size, "eod": 0, "tokenizer": made.content, "splits": splits}
    (folder / "tokens" / "index.json").write_text(json.dumps(index))
    return Artifact.of(folder / "tokens"), made
