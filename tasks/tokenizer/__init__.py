"""tokenizer: a vocabulary made from the training documents.

tokenizer.json, tokenizer_config.json, special_tokens_map.json
             `transformers.AutoTokenizer.from_pretrained(folder)` loads it and gives the same ids
report.json  what the vocabulary does to held-out documents: bytes a token and tokens a word, by source and language;
             tokens that nothing uses; unknown tokens; how many documents come back as they were
logs/reference.json
             the same documents with GPT-2's tokenizer, where that is on this machine (no content of the artifact)

`bpe` is byte-level BPE: any string can be encoded and comes back as it was, unless a normalisation is asked for.
`unigram` and `wordpiece` give text back up to what UnigramConfig and WordPieceConfig say.  `characters` is one token a
character, ids in the order of the code points as in nanoGPT; its vocabulary is all that occurs in train/, validation/
and test/, and a character outside of it cannot be encoded: that is an error, never an unknown token, because text that
does not come back would falsify every measure in bits a byte.

`<|endoftext|>` stands for the end of a document.  Special tokens are never made from text: where a document says
`<|endoftext|>`, `tokens` encodes those characters as text.  (transformers does so with `split_special_tokens=True`.)
"""

from infra.artifacts import Artifact, Attempt
from infra.manifests import Counters
from infra.steps import step
from tasks.split import ALL_PARTS
from tasks.tokenizer.config import (
    END_OF_DOCUMENT,
    AnyTokenizerConfig,
    BpeConfig,
    CharactersConfig,
    ModelVocabulary,
    Normalisation,
    TokenizerConfig,
    UnigramConfig,
    WordPieceConfig,
)


@step("tokenizer", version=2, reads={"documents": ALL_PARTS})
def tokenizer(
    cfg: BpeConfig | WordPieceConfig | UnigramConfig | CharactersConfig, documents: Artifact, out: Attempt
) -> Counters:
    """Make a tokenizer from train/ (`characters`: from all characters there are) and measure it on validation/.

    Raises UserError where the corpus and the config do not fit together.
    """
    from tasks.tokenizer.training import make_tokenizer

    return make_tokenizer(cfg, documents, out)


__all__ = [
    "END_OF_DOCUMENT",
    "AnyTokenizerConfig",
    "BpeConfig",
    "CharactersConfig",
    "ModelVocabulary",
    "Normalisation",
    "TokenizerConfig",
    "UnigramConfig",
    "WordPieceConfig",
    "tokenizer",
]
