"""`kill -9` at any moment, then the same command: nothing lost, nothing done twice, the same bytes at the end."""

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import Undisturbed
from tests.running import World, digests, states

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path, prefect_server: str, undisturbed: Undisturbed) -> World:
    (tmp_path / "corpus").symlink_to(undisturbed.corpus)
    return World(tmp_path, {"PREFECT_API_URL": prefect_server})  # one worker process, as against two undisturbed


def _building(world: World, step: str) -> bool:
    """Whether somebody holds a lease on an artifact of `step` that is not published."""
    folders = (world.folder / ".millrace" / "artifacts").glob(f"{step}/*")
    return any((f / "lease" / "000001.json").exists() and not (f / "manifest.json").exists() for f in folders)


def _checkpointed(world: World, step: str) -> bool:
    return any((world.folder / ".millrace" / "artifacts").glob(f"{step}/*/partial/**/complete.json"))


# A step of shards, one that is whole, one that goes on from within; and where the run shall end.
PLACES: dict[str, tuple[Callable[[World, str], bool], str, str]] = {
    "annotate": (_building, "annotate.shard", "dedup"),
    "dedup": (_building, "dedup", "dedup"),
    "pretrain": (_checkpointed, "pretrain", "evaluate"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_run_ends_as_an_undisturbed_one(place: str, world: World, undisturbed: Undisturbed) -> None:
    reached, step, until = PLACES[place]
    undisturbed.copy_until(place, world.folder)
    recipe = world.recipe()
    process = world.start("run", recipe, "--until", until)
    end = time.monotonic() + 400
    while not reached(world, step):
        assert process.poll() is None, f"ended before {place}: {process.communicate()[1][-2000:]}"
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = _published(world)

    summary = world.summary(recipe, "--until", until)

    assert digests(summary) == undisturbed.digests[: len(summary["steps"])]
    assert summary["steps"][-1]["step"] == until
    after = _published(world)
    for artifact, attempt in before.items():
        assert after[artifact] == attempt, f"{artifact} was built again"
    if place == "pretrain":
        assert states(summary)["tokens"] == "cached"
        log = "".join(p.read_text() for p in _attempts(world, "pretrain", "logs/ranks.log"))
        assert "resum" in log.lower()


def _published(world: World) -> dict[str, str]:
    manifests = (world.folder / ".millrace" / "artifacts").glob("*/*/manifest.json")
    return {f"{p.parts[-3]}/{p.parts[-2]}": p.read_text() for p in manifests}


def _attempts(world: World, step: str, name: str) -> list[Path]:
    return sorted((world.folder / ".millrace" / "artifacts" / step).glob(f"*/attempt-*/{name}"))


@pytest.mark.parametrize(
    ("sign", "place", "embedded"),
    [
        (signal.SIGINT, "annotate.shard", False),
        (signal.SIGTERM, "pretrain", False),
        (signal.SIGTERM, "extract.shard", True),
    ],
)
def test_an_interrupted_run_says_how_to_go_on_and_leaves_no_process(
    sign: signal.Signals, place: str, embedded: bool, world: World, undisturbed: Undisturbed
) -> None:
    undisturbed.copy_until(place.removesuffix(".shard"), world.folder)
    if embedded:  # a temporary server of its own
        del world.environment["PREFECT_API_URL"]
    recipe = world.recipe()
    process = world.start("run", recipe)
    end = time.monotonic() + 300
    while not _building(world, place):
        assert process.poll() is None, process.communicate()[1][-2000:]
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(1 if place == "pretrain" else 0)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(sign)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err[-2000:]
    assert f"to go on from where it stopped: millrace run {recipe}" in err
    assert ("told to stop" in err) == (place == "pretrain"), "what can save what it has done is given the time"
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert re.search(r"^\w+ +stopped ", err, re.MULTILINE), err[-2000:]
    (run,) = (world.folder / ".millrace" / "runs").iterdir()
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"
    assert "told to stop in" in (run / "report.html").read_text()


def test_two_runs_at_once_publish_each_artifact_once(world: World, undisturbed: Undisturbed) -> None:
    recipe = world.recipe()
    both = [world.start("run", recipe, "--json") for _ in range(2)]
    ended = [process.communicate(timeout=540) for process in both]
    for process, (_, err) in zip(both, ended, strict=True):
        assert process.returncode == 0, err[-3000:]
    summaries = [json.loads(out) for out, _ in ended]
    assert [digests(s) for s in summaries] == [undisturbed.digests] * 2
    for step in {name for name, _ in undisturbed.digests}:
        ran = [s for s in summaries if states(s)[step] == "ran"]
        if step in ("tokenizer", "tokens", "pretrain", "evaluate", "dedup"):
            assert len(ran) <= 1, f"{step} was built twice"
    artifacts = world.folder / ".millrace" / "artifacts"
    for manifest in artifacts.glob("*/*/manifest.json"):
        attempts = [p for p in manifest.parent.glob("attempt-*") if any(q.is_file() for q in p.rglob("*"))]
        assert len(attempts) <= 1, f"{manifest.parent} was built {len(attempts)} times"
