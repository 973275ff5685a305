"""The files of a tokenizer as `transformers.AutoTokenizer.from_pretrained` reads them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infra.artifacts import Attempt
from tasks.tokenizer.config import CHATML_TOKENS, END_OF_DOCUMENT, ROLES, CharactersConfig, LearnedConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHATML: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
    "'\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""OpenAI's ChatML."""


def add_special_tokens(made: "Tokenizer", cfg: LearnedConfig | CharactersConfig) -> None:
    """Add the special tokens after what was learned, unless they are there, and the padding of the vocabulary."""
    from tokenizers import AddedToken

    unused = 0
    names = list(cfg.special)
    size = made.get_vocab_size() + sum(made.token_to_id(name) is None for name in names)
    while size % cfg.pad_vocab_to_multiple_of:
        if (name := f"<|unused_{unused}|>") not in cfg.special:
            names.append(name)
            size += 1
        unused += 1
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])


def save(made: "Tokenizer", cfg: LearnedConfig | CharactersConfig, out: Attempt) -> None:
    """Write tokenizer.json, special_tokens_map.json and tokenizer_config.json."""
    made.save(str(out.path("tokenizer.json")))
    named = {role: token for role in ROLES if (token := getattr(cfg, role, None))}
    special: dict[str, Any] = {"bos_token": END_OF_DOCUMENT, "eos_token": END_OF_DOCUMENT} | named
    chat = CHATML_TOKENS if cfg.chat_template == "chatml" else ()
    if further := [*cfg.special_tokens, *chat, *cfg.sentinel_tokens]:
        special["additional_special_tokens"] = further
    write_json(out.path("special_tokens_map.json"), special)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False} | special
    if cfg.chat_template is not None:
        config["chat_template"] = CHATML if cfg.chat_template == "chatml" else cfg.chat_template
    write_json(out.path("tokenizer_config.json"), config)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write JSON with a line a value."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
