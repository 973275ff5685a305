"""What faults are held against: the same run where nothing happened."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from flows.summary import STEPS
from tests.running import World, digests, made_once, write_corpus


@dataclass
class Undisturbed:
    """A run of the tiny recipe to its end, and what it ended with."""

    world: World
    digests: list[tuple[str, str]]

    @property
    def corpus(self) -> Path:
        """The folder of its documents."""
        return self.world.folder / "corpus"

    def copy_until(self, step: str, folder: Path) -> None:
        """Give a world in `folder` what the run had made before `step` began."""
        later = STEPS[STEPS.index(step) :]
        shutil.copytree(
            self.world.folder / ".millrace" / "artifacts",
            folder / ".millrace" / "artifacts",
            ignore=lambda at, names: [name for name in names if name.removesuffix(".shard") in later],
        )


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Undisturbed:
    """A whole run of the tiny recipe."""

    def make(folder: Path) -> None:
        write_corpus(folder / "corpus")
        world = World(folder, {"PREFECT_API_URL": prefect_server, "MILLRACE_WORKERS": "2"})
        (folder / "digests.json").write_text(json.dumps(digests(world.summary(world.recipe()))))

    folder = made_once("undisturbed", tmp_path_factory.getbasetemp(), make)
    found = [(step, digest) for step, digest in json.loads((folder / "digests.json").read_text())]
    return Undisturbed(World(folder), found)
