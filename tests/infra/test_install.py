"""What `make` installs: one exact version of everything, and nothing that is true on one machine only."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
CUDA = ("nvidia-", "cuda-", "triton")


def pins() -> dict[str, str]:
    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def requirements() -> list[Requirement]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


def test_every_dependency_has_an_exact_version_in_its_range() -> None:
    known = pins()
    missing = [r.name for r in requirements() if canonicalize_name(r.name) not in known]
    assert missing == []
    outside = [str(r) for r in requirements() if not r.specifier.contains(known[canonicalize_name(r.name)])]
    assert outside == []


def test_what_the_dependencies_bring_is_pinned_too() -> None:
    known = pins()
    loose = set()
    seen: set[tuple[str, str]] = set()
    queue = [(requirement.name, extra) for requirement in requirements() for extra in {"", *requirement.extras}]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        if canonicalize_name(name) not in known and not name.startswith(CUDA):
            loose.add(name)
        for requirement in map(Requirement, lines):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                queue += [(requirement.name, wanted) for wanted in {"", *requirement.extras}]
    assert len(seen) > 200
    assert loose == set()


def test_the_pins_suit_every_machine() -> None:
    text = (REPOSITORY / "constraints.txt").read_text()
    assert not re.search(r"://|--|\+|@", text), "a host, an option or a local version"
    assert [name for name in pins() if name.startswith(CUDA)] == []


def test_what_breaks_others_is_pinned_away() -> None:
    known = pins()
    assert [name for name in known if "fasttext" in name] == ["fasttext-numpy2-wheel"]
    assert int(known["sqlalchemy"].split(".")[1]) == 0, "with 2.1 Prefect's scheduler creates no run"


def test_every_package_is_installed() -> None:
    """A folder with modules that setuptools would leave out is found here and not by somebody's import."""
    include = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    floors = {pattern.split(".")[0] for pattern in include["include"]}
    assert floors == {"flows", "tasks", "models", "infra"}
    without = [
        str(folder.relative_to(REPOSITORY))
        for floor in floors
        for folder in {module.parent for module in (REPOSITORY / floor).rglob("*.py")}
        if not (folder / "__init__.py").exists()
    ]
    assert without == []
