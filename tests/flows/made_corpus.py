"""A corpus in which every step has something to do to some page, made by the real steps without Prefect."""

import json
import os
from pathlib import Path
from typing import Any

import yaml

from flows.recipe import load_recipe
from flows.summary import STEPS
from flows.train_from_scratch import corpus_steps
from infra.artifacts import ArtifactStore
from infra.execution import LocalRunner, Options
from infra.processes import Workers
from infra.settings import settings
from infra.steps import executing
from tests.running import TINY, World, write_corpus
from tests.tasks.crawls import HOST
from tests.tasks.web_server import Answer, moved, page, website

STORY = (
    "The miller opened the gate of the race in the morning and the water of the brook came down to the wheel. "
    "He had to wait for a while with his hands in his pockets, because of the ice that was still on the paddles. "
    "Then the stones began to turn, and the grain that the farmers had brought in that week became flour. "
)
OTHER = (
    "A letter arrived with the evening post and nobody in the house wanted to open it before supper was over. "
    "The children asked about the stamp, which had a ship on it, and were told to be quiet and to eat their bread. "
    "When the table was cleared their mother took the knife and the envelope and went to the window with both. "
)
GERMAN = "Der Müller öffnete am Morgen das Wehr, und das Wasser des Baches kam herab zum Rad der alten Mühle. " * 4
NOTE = "https://notes.test"

RECIPE: dict[str, Any] = {
    **TINY,
    "name": "made",
    "select": {
        "languages": ["en"], "min_words": 20, "gopher_repetition": None, "c4": None, "fineweb": None,
        "gopher_quality": {"min_words": 20, "min_mean_word_length": None, "max_symbol_word_ratio": 0.5},
    },
    "split": {"method": "hash", "validation_fraction": 0.3},
    "tokenizer": {"kind": "bpe", "vocab_size": 400},
}  # fmt: skip


def _site() -> dict[str, Any]:
    text = "".join(f"{sentence}. " for sentence in (STORY + OTHER).split(". "))
    return {
        "/robots.txt": Answer(b"User-agent: *\nDisallow: /private\n", headers={"Content-Type": "text/plain"}),
        "/": page("/private", "/old", "/gone", "/mill", text=text),
        "/mill": page(text=f"{STORY} It was a cold day in the valley."),
        "/old": moved("/mill"),
    }


def _notes() -> list[dict[str, str]]:
    return [
        {"url": f"{NOTE}/letter", "text": OTHER},
        {"url": f"{NOTE}/copy", "text": OTHER},
        {"url": f"{NOTE}/short", "text": "Too short ## ## ## ##."},
        {"url": f"{NOTE}/german", "text": GERMAN},
        {"url": f"{NOTE}/broken", "text": f"CafÃ© notes. {STORY * 2} That is all there is about it."},
        {"url": f"{NOTE}/twice", "text": "The first of two texts at one address."},
        {"url": f"{NOTE}/twice", "text": "And what was found there later."},
        {"url": f"{NOTE}/empty", "text": " "},
        {"url": f"{NOTE}/numeric", "text": 7},  # type: ignore[dict-item]
    ]


def write(folder: Path, connect_to: str = "127.0.0.1:9") -> str:
    """Write the recipe and its files; return its path."""
    if not (folder / "corpus").exists():
        write_corpus(folder / "corpus", files=2, each=10)
        lines = [json.dumps(note, ensure_ascii=False) for note in _notes()]
        (folder / "notes").mkdir()
        (folder / "notes" / "0.jsonl").write_text("\n".join(lines[:3]) + "\n")
        (folder / "notes" / "1.jsonl").write_text("\n".join(lines[3:]) + "\n")
    sources = [
        *TINY["ingest"]["sources"],
        {
            "kind": "crawl", "name": "site", "seeds": [f"{HOST}/"], "contact": "https://example.org/about",
            "delay_seconds": 0, "retry_seconds": 0.05, "last_round_seconds": 0, "connect_to": {"site.test": connect_to},
        },
        {"kind": "files", "name": "notes", "paths": ["notes/*.jsonl"], "url_field": "url"},
    ]  # fmt: skip
    recipe = folder / "made.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "ingest": {"sources": sources}}))
    return str(recipe)


def build(world: World, *variants: list[str], until: str = "tokens") -> None:
    """Run the steps of the recipe in `world`, as far as `until`, into the store that the command looks into.

    `variants` are values of `--set`, a run each; without any it is the recipe as it is.
    """
    before = Path.cwd()
    os.chdir(world.folder)
    settings.cache_clear()
    try:
        with website(_site()) as site, Workers(2) as workers:
            recipe = write(world.folder, site.address)
            store = ArtifactStore(settings().storage)
            for sets in variants or ([],):
                with executing(LocalRunner(store, workers, Options(until=until, order=STEPS))):
                    corpus_steps(load_recipe(recipe, sets=sets))
    finally:
        os.chdir(before)
        settings.cache_clear()
