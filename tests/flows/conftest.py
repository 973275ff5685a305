"""What tests of several commands look at."""

import pytest

from tests.flows import made_corpus
from tests.running import World


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> World:
    """A world whose corpus is made as far as the card; for tests that only look at it."""
    world = World(tmp_path_factory.mktemp("made"), {"PREFECT_API_URL": prefect_server})
    made_corpus.build(world, until="card")
    return world
