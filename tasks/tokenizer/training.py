"""Making the vocabulary: byte-level BPE with `tokenizers`, or the set of characters; both the same from run to run."""

import json
import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infra.artifacts import Artifact, Attempt
from infra.manifests import Counters
from tasks.documents import iter_rows
from tasks.split import PARTS, require_both_parts
from tasks.tokenizer import END_OF_DOCUMENT, TokenizerConfig
from tasks.tokenizer.encoding import PIECE_CHARACTERS, DocumentEncoder, pieces
from tasks.tokenizer.report import measure
from tasks.tokenizer.sampling import Sample

if TYPE_CHECKING:
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)

GPT4_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""cl100k_base of openai/tiktoken (tiktoken_ext/openai_public.py), without its possessive quantifiers."""


def make_tokenizer(cfg: TokenizerConfig, documents: Artifact, out: Attempt) -> Counters:
    """Write tokenizer.json, what transformers wants beside it, and report.json."""
    require_both_parts(documents)
    train = Sample.all_of(documents.files("train"), cfg.seed)
    sample = train.at_most(cfg.max_bytes) if cfg.kind == "bpe" else train
    started = time.perf_counter()
    if cfg.kind == "bpe":
        made = train_bpe(cfg, _texts(sample, out))
        if (size := made.get_vocab_size()) < cfg.vocab_size:
            log.warning(
                "tokenizer: %d bytes of text give %d tokens, not the %d of tokenizer.vocab_size; the model takes %d",
                *(sample.bytes, size, cfg.vocab_size, size),
            )
    else:
        files = [file for part in PARTS for file in documents.files(part)]
        made = character_tokenizer((row["text"] for file in files for row in iter_rows(file, ["text"])), cfg)
    seconds = time.perf_counter() - started
    save(made, cfg, out)
    report = {
        "kind": cfg.kind,
        "vocab_size": made.get_vocab_size(),
        "vocab_size_requested": cfg.vocab_size if cfg.kind == "bpe" else None,
        "end_of_document": {"token": END_OF_DOCUMENT, "id": made.token_to_id(END_OF_DOCUMENT)},
        "trained_on": {"documents": sample.documents, "bytes": sample.bytes},
    }
    _write_json(out.path("report.json"), report | measure(DocumentEncoder(out.path("tokenizer.json")), train))
    return Counters(
        documents_in=train.documents,
        documents_out=train.documents,
        values={
            "vocab_size": made.get_vocab_size(),
            "sample_documents": sample.documents,
            "sample_bytes": sample.bytes,
        },
        metrics={"bytes_per_second": round(sample.bytes / seconds)},
    )


def train_bpe(cfg: TokenizerConfig, texts: Iterable[str]) -> "Tokenizer":
    """Train byte-level BPE on texts: special tokens have the first ids, then all 256 bytes, then the merges.

    Equal texts in any order give an equal tokenizer: merges go by count, ties by token id.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    if cfg.pattern == "gpt2":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        cut = pre_tokenizers.Split(Regex(GPT4_PATTERN), "isolated")
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        made.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=cfg.vocab_size,
        min_frequency=cfg.min_frequency,
        special_tokens=[END_OF_DOCUMENT, *cfg.special_tokens],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator((piece for text in texts for piece in pieces(text, PIECE_CHARACTERS)), trainer)
    return made


def character_tokenizer(texts: Iterable[str], cfg: TokenizerConfig) -> "Tokenizer":
    """Make a token of every character that occurs, ids in the order of code points; special tokens come after them.

    A character that does not occur cannot be encoded: `tokenizers` raises.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    vocabulary = {character: id for id, character in enumerate(sorted(characters))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<|unknown character|>"))  # not in the vocabulary: raises
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    special = [END_OF_DOCUMENT, *cfg.special_tokens]
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return made


def save(made: "Tokenizer", cfg: TokenizerConfig, out: Attempt) -> None:
    """Write the files that `transformers.AutoTokenizer.from_pretrained` reads."""
    made.save(str(out.path("tokenizer.json")))
    special: dict[str, Any] = {"bos_token": END_OF_DOCUMENT, "eos_token": END_OF_DOCUMENT}
    if cfg.special_tokens:
        special["additional_special_tokens"] = list(cfg.special_tokens)
    _write_json(out.path("special_tokens_map.json"), special)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    _write_json(out.path("tokenizer_config.json"), config | special)


def _texts(sample: Sample, out: Attempt) -> Iterator[str]:
    done = 0
    for number, (_, text) in enumerate(sample):
        if number % 1000 == 0:
            out.progress(done, sample.bytes, "bytes")
        done += len(text)
        yield text


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
