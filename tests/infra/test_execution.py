"""Steps run for real in worker processes, without Prefect."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.artifacts import Artifact, ArtifactStore
from infra.errors import DataError, MillraceError, StepTimeoutError, UserError, WorkerDiedError
from infra.execution import LocalRunner, Options
from infra.planning import Planner
from infra.processes import Workers
from infra.steps import Gate, Pending, executing, gather
from tests.infra.stand_in_steps import JoinConfig, ShoutConfig, SourceConfig, join, shout, source

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(1) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"), workspace=tmp_path / "workspace")


ORDER = ["source", "shout", "join"]


def _run(
    store: ArtifactStore,
    workers: Workers,
    *,
    text: str = "x",
    threads: int = 1,
    shouting: ShoutConfig | None = None,
    options: Options | None = None,
) -> tuple[LocalRunner, Artifact]:
    runner = LocalRunner(store, workers, (options or Options()).within(ORDER))
    with executing(runner):
        loud = shout(shouting or ShoutConfig(), documents=source(SourceConfig(text=text, threads=threads)))
        return runner, join(JoinConfig(), documents=loud)


def _states(runner: LocalRunner) -> dict[str, str]:
    return {record.step: record.state for record in runner.records}


def test_a_second_run_finds_everything_cached(store: ArtifactStore, workers: Workers) -> None:
    first, artifact = _run(store, workers)
    assert _states(first) == {"source": "ran", "shout": "ran", "join": "ran"}
    assert json.loads(artifact.file("joined.json").read_bytes()) == ["X0", "X1", "X2"]
    second, again = _run(store, workers)
    assert _states(second) == {"source": "cached", "shout": "cached", "join": "cached"}
    assert again == artifact


def test_the_funnel_of_a_sharded_step_is_the_sum_of_its_shards(store: ArtifactStore, workers: Workers) -> None:
    runner, _ = _run(store, workers)
    shouted = runner.records[1].artifact
    assert shouted is not None
    counters = shouted.counters
    assert (counters.documents_in, counters.documents_out, counters.dropped) == (3, 2, {"two": 1})
    assert counters.examples == {"two": ["http://site/x2"]}
    assert [f.path for f in shouted.files("documents")] == [f"documents/{i:05d}-part.txt" for i in range(3)]


def test_a_field_that_says_only_how_does_not_run_anything_again(store: ArtifactStore, workers: Workers) -> None:
    _run(store, workers)
    runner, _ = _run(store, workers, threads=8)
    assert set(_states(runner).values()) == {"cached"}


def test_a_step_rebuilt_to_the_same_bytes_leaves_what_follows_cached(store: ArtifactStore, workers: Workers) -> None:
    _run(store, workers)
    runner, _ = _run(store, workers, options=Options(force=("source", "shout")))
    assert _states(runner) == {"source": "ran", "shout": "ran", "join": "cached"}


def test_a_grown_corpus_pays_only_for_its_new_shards(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    runner = LocalRunner(store, workers)
    with executing(runner):
        for count in (2, 4):
            shout(ShoutConfig(calls=str(calls)), documents=source(SourceConfig(count=count)))
    assert calls.read_text().split() == ["x0", "x1", "x2", "x3"]


def test_finished_shards_survive_the_failure_of_another(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    with pytest.raises(ConnectionResetError):
        _run(store, workers, shouting=ShoutConfig(fail="flaky", calls=str(calls)))
    _run(store, workers, shouting=ShoutConfig(fail="flaky", calls=str(calls)))
    assert calls.read_text().split() == ["x0", "x1", "x1", "x2"]


def test_what_a_step_raises_reaches_the_caller_as_it_is(store: ArtifactStore, workers: Workers) -> None:
    with pytest.raises(UserError, match=r"shout\.text: is wrong"):
        _run(store, workers, shouting=ShoutConfig(fail="user"))


def test_a_worker_that_dies_is_an_error_and_the_pool_goes_on(store: ArtifactStore, workers: Workers) -> None:
    with pytest.raises(WorkerDiedError, match="died"):
        _run(store, workers, shouting=ShoutConfig(fail="exit"))
    _run(store, workers)


def test_a_step_over_its_limit_is_really_stopped(store: ArtifactStore, workers: Workers) -> None:
    began = time.monotonic()
    with pytest.raises(StepTimeoutError, match="step_timeout_seconds"):
        _run(store, workers, shouting=ShoutConfig(fail="hang", step_timeout_seconds=1))
    assert time.monotonic() - began < 300
    _run(store, workers)


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (
            Gate(max_dropped=0.3),
            r"1 of 3 documents were dropped \(limit 30%\); most often: two \(1\), e.g. http://site/x2",
        ),
        (Gate(min_out=3), "at least 3 must"),
    ],
)
def test_a_gate_fails_the_step_and_names_reason_and_examples(
    store: ArtifactStore, workers: Workers, gate: Gate, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        _run(store, workers, shouting=ShoutConfig(gate=gate))
    _run(store, workers)
    with pytest.raises(DataError, match=words):  # a published artifact is held against today's gate
        _run(store, workers, shouting=ShoutConfig(gate=gate))


def test_from_refuses_when_an_earlier_step_is_missing(store: ArtifactStore, workers: Workers) -> None:
    with pytest.raises(UserError, match="earlier step source is not cached"):
        _run(store, workers, options=Options(from_step="shout"))
    _run(store, workers, options=Options(until="source"))
    runner, _ = _run(store, workers, options=Options(from_step="shout"))
    assert _states(runner) == {"source": "cached", "shout": "ran", "join": "ran"}


def test_until_stops_after_a_step(store: ArtifactStore, workers: Workers) -> None:
    runner, last = _run(store, workers, options=Options(until="shout"))
    assert _states(runner) == {"source": "ran", "shout": "ran", "join": "pending"}
    assert isinstance(last, Pending)


def test_until_and_from_mind_every_source(store: ArtifactStore, workers: Workers) -> None:
    def run(options: Options) -> list[tuple[str, str]]:
        runner = LocalRunner(store, workers, options.within(ORDER))
        with executing(runner):
            parts = [shout(ShoutConfig(), documents=source(SourceConfig(text=text))) for text in "ab"]
            join(JoinConfig(), documents=gather(parts))
        return [(record.step, record.state) for record in runner.records]

    with pytest.raises(UserError, match="earlier step source is not cached"):
        run(Options(from_step="shout"))
    ran = run(Options(until="shout"))
    assert ran == [("source", "ran"), ("shout", "ran"), ("source", "ran"), ("shout", "ran"), ("join", "pending")]
    assert run(Options(from_step="join"))[-1] == ("join", "ran")


def test_force_builds_again_what_was_only_begun(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    shouting = ShoutConfig(fail="user", calls=str(calls))
    with pytest.raises(UserError):
        _run(store, workers, shouting=shouting)
    with pytest.raises(UserError):
        _run(store, workers, shouting=shouting, options=Options(force=("shout",)))
    assert calls.read_text().split() == ["x0", "x1", "x0", "x1"]


def test_closing_the_workers_ends_the_calls_under_way(store: ArtifactStore) -> None:
    pool = Workers(1)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            _run(store, pool, shouting=ShoutConfig(fail="hang"))
        except BaseException as exc:
            caught.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    end = time.monotonic() + 240
    while not list((store.storage.local_root or Path()).glob("artifacts/shout.shard/*/lease/000001.json")):
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    pool.close()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(caught[0], MillraceError)
    with pytest.raises(MillraceError, match="stopped"):
        _run(store, pool)


def test_a_pool_that_lost_an_idle_worker_is_replaced(store: ArtifactStore) -> None:
    others = {process.pid for process in psutil.Process().children()}
    with Workers(1) as pool:
        with executing(LocalRunner(store, pool)):
            source(SourceConfig())
        new = [process for process in psutil.Process().children() if process.pid not in others]
        (worker,) = [process for process in new if "spawn_main" in " ".join(process.cmdline())]
        worker.kill()
        time.sleep(1)
        for attempt in range(3):
            try:
                with executing(LocalRunner(store, pool)):
                    source(SourceConfig(text=f"again {attempt}"))
                break
            except WorkerDiedError:
                continue
        else:
            pytest.fail("the pool never came back")


def test_unknown_steps_are_named() -> None:
    with pytest.raises(UserError, match=r"--until nothing: .* source, join"):
        Options(until="nothing").within(["source", "join"])


def test_a_plan_says_what_will_run_and_why(store: ArtifactStore, workers: Workers) -> None:
    def plan(shouting: ShoutConfig, text: str = "x") -> dict[str, tuple[str, str]]:
        planner = Planner(store)
        with executing(planner):
            loud = shout(shouting, documents=source(SourceConfig(text=text)))
            join(JoinConfig(), documents=loud)
        return {record.step: (record.state, record.why) for record in planner.records}

    assert plan(ShoutConfig())["source"] == ("pending", "never built here")
    _run(store, workers)
    assert {state for state, _ in plan(ShoutConfig()).values()} == {"cached"}
    changed = plan(ShoutConfig(times=2))
    assert changed["source"][0] == "cached"
    assert changed["shout"] == ("pending", "PARAMS: times 1 -> 2")
    assert changed["join"] == ("pending", "INPUTS: shout will run first")
    assert plan(ShoutConfig(), "y")["source"] == ("pending", "PARAMS: text 'x' -> 'y'")


def test_a_plan_counts_the_shards_that_are_done(store: ArtifactStore, workers: Workers) -> None:
    _run(store, workers)
    with executing(LocalRunner(store, workers)):
        source(SourceConfig(count=5))
    planner = Planner(store)
    with executing(planner):
        shout(ShoutConfig(), documents=source(SourceConfig(count=5)))
    record = planner.records[-1]
    assert (record.shards, record.shards_cached) == (5, 3)
    assert record.why == "INPUTS: documents changed"


def test_a_step_outside_of_a_flow_says_so() -> None:
    with pytest.raises(MillraceError, match="inside a flow"):
        source(SourceConfig())


@pytest.mark.slow
def test_workers_are_gone_when_their_parent_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
if __name__ == "__main__":
    from infra.artifacts import ArtifactStore
    from infra.execution import LocalRunner
    from infra.processes import Workers
    from infra.steps import executing
    from tests.infra.stand_in_steps import *
    with Workers(1) as pool, executing(LocalRunner(ArtifactStore({str(tmp_path / "store")!r}), pool)):
        shout(ShoutConfig(fail="hang", calls={str(tmp_path / "calls")!r}), documents=source(SourceConfig()))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path)
    end = time.monotonic() + 240
    while not (tmp_path / "calls").exists() or "x1" not in (tmp_path / "calls").read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []
