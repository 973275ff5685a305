"""Object storage that misbehaves: survived for a while, and never mistaken for an empty store."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.artifacts import ArtifactStore
from tests.faults.conftest import Undisturbed
from tests.faults.s3_proxy import Proxy, proxy
from tests.running import World, digests, states, write_corpus

pytestmark = pytest.mark.slow


@pytest.fixture
def wire(moto_server: str) -> Iterator[Proxy]:
    with proxy(moto_server) as server:
        yield server


@pytest.fixture
def world(tmp_path: Path, prefect_server: str, wire: Proxy, s3_bucket: str) -> World:
    write_corpus(tmp_path / "corpus", files=3, each=8)
    return World(
        tmp_path,
        {
            "PREFECT_API_URL": prefect_server,
            "MILLRACE_STORAGE": f"{s3_bucket}/store",
            "AWS_ENDPOINT_URL": wire.url,
            "MILLRACE_RETRY_SECONDS": "1",
        },
    )


@pytest.mark.parametrize("until", ["tokens", pytest.param("evaluate", marks=pytest.mark.long)])
def test_the_same_recipe_gives_the_same_digests_on_s3_and_on_local_files(
    until: str, world: World, undisturbed: Undisturbed
) -> None:
    (world.folder / "corpus").rename(world.folder / "other")
    (world.folder / "corpus").symlink_to(undisturbed.corpus)
    remote = world.summary(world.recipe(), "--until", until)
    assert remote["steps"][-1]["step"] == until
    assert all(step["uri"].startswith("s3://") for step in remote["steps"])
    assert digests(remote) == undisturbed.digests[: len(remote["steps"])]


@pytest.mark.long
def test_storage_that_answers_503_for_a_while_is_survived(world: World, wire: Proxy) -> None:
    def disturb() -> None:
        while len(wire.puts) < 3:
            time.sleep(0.05)
        for _ in range(2):
            wire.mode = "503"
            time.sleep(3)
            wire.mode = "up"
            time.sleep(2)

    thread = threading.Thread(target=disturb, daemon=True)
    thread.start()
    summary = world.summary(world.recipe(), "--until", "normalise")
    thread.join(60)
    assert wire.failures > 0
    assert states(summary)["normalise"] == "ran"


def _attempts(s3_bucket: str) -> dict[str, str]:
    return {a.digest: a.manifest.attempt for a in ArtifactStore(f"{s3_bucket}/store").published()}


def test_storage_that_goes_down_loses_nothing_that_was_published_and_makes_nothing_anew(
    world: World, wire: Proxy, s3_bucket: str
) -> None:
    recipe = world.recipe()
    calm = dict(world.environment)
    impatient = {"MILLRACE_RETRIES": "1", "MILLRACE_RETRY_SECONDS": "0.2"}
    world.environment |= impatient
    wire.down_after = 200
    failed = world.run("run", recipe, "--until", "extract", status=1)
    assert wire.failures > 0
    assert "Traceback" not in failed.stderr
    last = failed.stderr.strip().splitlines()
    (line,) = [line for line in last if line.startswith("millrace: ")]
    assert wire.url in line
    assert "did not answer" in line or "gave up after 1 retries" in line
    assert any("to go on from where it stopped: millrace run" in line for line in last)
    wire.down_after, wire.mode = None, "up"
    before = _attempts(s3_bucket)
    assert before
    world.environment = calm
    states_after = states(world.summary(recipe, "--until", "extract"))
    assert "ran" in states_after.values()
    after = _attempts(s3_bucket)
    assert {digest: after[digest] for digest in before} == before

    wire.puts.clear()
    wire.mode = "down"
    world.environment = calm | impatient | {"AWS_MAX_ATTEMPTS": "1"}
    failed = world.run("run", recipe, "--until", "extract", status=1)
    assert "Traceback" not in failed.stderr
    assert not [path for path in wire.puts if "/artifacts/" in path]
    wire.mode = "up"
    world.environment = calm
    plan = json.loads(world.ask("plan", recipe, "--until", "extract", "--json").stdout)
    assert {step["state"] for step in plan["steps"]} == {"cached", "skip"}
    assert _attempts(s3_bucket) == after
