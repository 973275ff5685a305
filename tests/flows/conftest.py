"""What tests of several commands look at."""

from pathlib import Path

import pytest

from tests.flows import made_corpus
from tests.running import World, made_once


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose corpus is made as far as the card; for tests that only look at it."""

    def make(folder: Path) -> None:
        made_corpus.build(World(folder), until="card")

    return World(made_once("made", tmp_path_factory.getbasetemp(), make))
