"""The command, as a person types it; what runs something starts `millrace` as a process of its own."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.artifacts import ArtifactStore, Claim, Work
from infra.manifests import Counters, Identity, Input
from tasks.documents import DOCUMENTS, QUARANTINE, write_parquet
from tests.running import World, digests, states, write_corpus


@pytest.fixture
def world(tmp_path: Path) -> World:
    write_corpus(tmp_path / "corpus", files=2, each=10)
    return World(tmp_path)


def _one_line(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("millrace: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nothing"], "recipe nothing: no such recipe"),
        (["run", "nothing.yaml"], r"nothing\.yaml: no such file"),
        (
            ["run", "tiny.yaml", "--set", "select.min_wrods=3"],
            r"select\.min_wrods: unknown key; did you mean min_words",
        ),
        (["run", "tiny.yaml", "--set", "pretrain.steps=many"], r"pretrain\.steps: .*'many'"),
        (["run", "tiny.yaml", "--input", "not/there.jsonl"], r"ingest\.sources\[0\]\.paths.*not/there\.jsonl"),
        (["run", "tiny.yaml", "--until", "selekt"], "--until selekt: the recipe has no such step; it has ingest"),
        (["run", "tiny.yaml", "--force", "selekt"], "--force selekt"),
        (["run", "tiny.yaml", "--from", "dedup"], "--from dedup: the earlier step ingest is not cached"),
        (["run", "web-pages"], r"ingest\.sources\[0\]\.paths: names no file"),
        (["plan", "tiny.yaml", "--until", "selekt"], "no such step"),
        (["show", "abcdef"], "abcdef: no such artifact"),
        (["lineage", "abcdef"], "abcdef: no such artifact"),
        (["ls", "nothing"], "nothing: no artifact of such a step"),
        (["generate", "abcdef"], "abcdef: no such artifact"),
        (["run"], "Missing argument 'recipe'"),
        (["fly"], "No such command 'fly'"),
        (["run", "tiny.yaml", "--fly"], "No such option"),
    ],
)
def test_a_mistake_is_one_clear_line_and_status_2(world: World, arguments: list[str], words: str) -> None:
    world.recipe()
    done = world.ask(*arguments, status=2)
    assert re.search(words, _one_line(done.stderr))
    assert done.stdout == ""
    assert not (world.folder / ".millrace" / "prefect").exists(), "Prefect was started"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"MILLRACE_WORKERS": "none"}, "workers"),
        ({"MILLRACE_STORAGE": "nosuch://x"}, "storage nosuch://x"),
        ({"MILLRACE_STORAGE": "/proc/nothing"}, "storage /proc/nothing"),
    ],
)
def test_a_wrong_setting_is_named(world: World, environment: dict[str, str], words: str) -> None:
    world.environment = environment
    done = world.run("run", world.recipe(), status=2)
    assert words in _one_line(done.stderr)


def test_a_bucket_that_is_not_there_is_named(world: World, moto_server: str) -> None:
    world.environment = {"MILLRACE_STORAGE": "s3://no-such-bucket-anywhere/x"}
    done = world.run("run", world.recipe(), status=2)
    assert "storage s3://no-such-bucket-anywhere/x: not found" in _one_line(done.stderr)
    world.environment = {}
    done = world.run("run", world.recipe(), "--input", "s3://no-such-bucket-anywhere/*.jsonl", status=2)
    assert "ingest.sources[0].paths" in _one_line(done.stderr)


def test_settings_are_read_from_millrace_toml(world: World) -> None:
    (world.folder / "millrace.toml").write_text('storage = "elsewhere"\n')
    plan = json.loads(world.ask("plan", world.recipe(), "--json").stdout)
    assert Path(plan["storage"]) == world.folder / "elsewhere"
    (world.folder / "millrace.toml").write_text('storrage = "elsewhere"\n')
    assert "storrage" in _one_line(world.ask("plan", world.recipe(), status=2).stderr)


def test_a_plan_before_the_first_run_runs_nothing(world: World) -> None:
    plan = json.loads(world.ask("plan", world.recipe(), "--json").stdout)
    assert [s["step"] for s in plan["steps"]] == [
        "ingest", "extract", "normalise", "annotate", "select", "redact", "dedup", "split", "tokenizer", "tokens",
        "card", "pretrain", "evaluate",
    ]  # fmt: skip
    assert {s["state"] for s in plan["steps"]} == {"run"}
    assert plan["steps"][0]["why"] == "never built here"
    assert not (world.folder / ".millrace" / "artifacts").exists()


def test_plan_ls_and_show_import_neither_prefect_nor_torch(world: World) -> None:
    recipe = world.recipe()
    for arguments in (["plan", recipe], ["ls"]):
        world.environment = {"PYTHONPROFILEIMPORTTIME": "1"}
        imported = world.run(*arguments).stderr
        for module in ("prefect", "torch", "deepspeed", "datatrove", "trafilatura", "spacy", "scrapy", "transformers"):
            assert not re.search(rf"\| +{module}$", imported, re.MULTILINE), f"{arguments[0]} imports {module}"


def test_what_was_published_can_be_listed_shown_and_traced(world: World) -> None:
    store = ArtifactStore(str(world.folder / ".millrace"))

    def publish(step: str, inputs: tuple[Input, ...]) -> Any:
        with store.claim(Identity(step, 1, {"x": 1}, inputs)) as claim:
            assert isinstance(claim, Claim)
            claim.attempt.path("documents/part.txt").write_text(step)
            return store.publish(claim, Counters(documents_in=2, documents_out=1, dropped={"short": 1}), Work(2))

    first = publish("extract", (Input(role="pages", content="c" * 64, uri="/data/pages.warc.gz"),))
    second = publish("select", (Input(role="documents", content=first.content, digest=first.digest, uri=first.uri),))
    listed = json.loads(world.ask("ls", "--json").stdout)
    assert [(e["step"], e["digest"]) for e in listed] == [("extract", first.digest), ("select", second.digest)]
    assert second.digest[:12] in world.ask("ls", "select").stdout
    shown = json.loads(world.ask("show", second.digest[:9], "--json").stdout)
    assert shown["counters"]["dropped"] == {"short": 1}
    assert "short" in world.ask("show", "select").stdout
    lineage = world.ask("lineage", "select").stdout
    assert lineage.index("select") < lineage.index("extract") < lineage.index("/data/pages.warc.gz")
    nodes = json.loads(world.ask("lineage", "select", "--json").stdout)
    assert [(n["step"], n["depth"]) for n in nodes] == [("select", 0), ("extract", 1)]
    assert "1 files are as their manifest says" in world.ask("verify", "select").stdout
    Path(second.files()[0].uri).write_text("tampered")
    assert "sha256" in _one_line(world.ask("verify", "select", status=1).stderr)


def test_the_rows_of_an_artifact_can_be_looked_at(world: World) -> None:
    store = ArtifactStore(str(world.folder / ".millrace"))
    place = {"file": "a.jsonl", "offset": 7}
    with store.claim(Identity("extract", 1, {}, ())) as claim:
        assert isinstance(claim, Claim)
        texts = {"web": "The mill. " * 500, "wiki": "The race."}
        write_parquet(
            claim.attempt.path("documents/part.parquet"),
            [
                {"id": s, "text": t, "url": f"http://{s}/", "source": s, "metadata": "{}", **place}
                for s, t in texts.items()
            ],
            DOCUMENTS,
        )
        row = {"url": "http://bad/", "error": "bad_json: no end", "stage": "ingest", **place}
        write_parquet(claim.attempt.path("quarantine/part.parquet"), [row], QUARANTINE)
        store.publish(claim, Counters(documents_in=3, documents_out=2, quarantined=1), Work(1))
    shown = world.ask("head", "extract").stdout
    assert shown.index("http://web/") < shown.index("    The mill.") < shown.index("http://wiki/")
    assert len(shown) < 2500
    (one,) = json.loads(world.ask("head", "extract", "--source", "wiki", "--json").stdout)
    assert (one["text"], one["file"], one["offset"]) == ("The race.", "a.jsonl", 7)
    assert "bad_json: no end" in world.ask("head", "extract", "--folder", "quarantine").stdout
    assert "it has documents, quarantine" in _one_line(world.ask("head", "extract", "--folder", "x", status=2).stderr)


@pytest.mark.slow
def test_a_whole_run_and_what_it_leaves_behind(world: World, prefect_server: str) -> None:
    world.environment = {"PREFECT_API_URL": prefect_server}
    recipe = world.recipe()
    first = world.summary(recipe)
    assert first["status"] == "completed"
    assert set(states(first).values()) == {"ran"}
    assert json.loads((world.folder / f".millrace/runs/{first['run_id']}/summary.json").read_text()) == first
    assert Path(first["report"]).read_text().startswith("<!DOCTYPE html>")
    assert Path(first["card"]["README.md"]).read_text().startswith("---\npretty_name: tiny\n")
    card = next(step["uri"] for step in first["steps"] if step["step"] == "card")
    assert card in Path(first["report"]).read_text(), "the report says where the card is"
    for stage in first["funnel"]:
        gone = sum(stage["dropped"].values()) + stage["quarantined"]
        assert stage["documents_in"] == stage["documents_out"] + gone, stage
    assert first["funnel"][0]["documents_in"] == 20
    assert first["corpus"]["tokens"] == first["corpus"]["train_tokens"] + first["corpus"]["validation_tokens"]
    assert first["model"]["steps"] == 40
    assert first["model"]["tokens_per_second"] > 0
    assert first["evaluation"]
    assert first["resume_command"] == f"millrace run {recipe}"

    again = world.run("run", recipe)
    assert "cached" in again.stderr
    assert " ran " not in again.stderr
    second = world.summary(recipe)
    assert set(states(second).values()) == {"cached"}
    assert digests(second) == digests(first)

    plan = json.loads(world.ask("plan", recipe, "--set", "select.min_words=40", "--json").stdout)
    assert {s["step"]: s["state"] for s in plan["steps"]} == {
        **dict.fromkeys(("ingest", "extract", "normalise", "annotate"), "cached"),
        **dict.fromkeys(
            ("select", "redact", "dedup", "split", "tokenizer", "tokens", "card", "pretrain", "evaluate"), "run"
        ),
    }
    assert next(s for s in plan["steps"] if s["step"] == "select")["why"] == "PARAMS: min_words 5 -> 40"
    changed = world.summary(recipe, "--set", "select.min_words=40", "--until", "select")
    cached = dict.fromkeys(("ingest", "extract", "normalise", "annotate"), "cached")
    assert states(changed) == {**cached, "select": "ran"}

    lineage = world.ask("lineage", "tiny").stdout
    for name in ("pretrain", "tokens", "dedup", "extract", "ingest", "corpus/0.jsonl", "corpus/1.jsonl"):
        assert name in lineage, name

    text = json.loads(world.run("generate", "tiny", "--prompt", "The ", "--max-tokens", "8", "--json").stdout)
    assert text == json.loads(world.run("generate", "tiny", "--prompt", "The ", "--max-tokens", "8", "--json").stdout)
    assert text["text"]


@pytest.mark.slow
def test_a_failed_run_says_why_on_one_line_and_how_to_go_on(world: World, prefect_server: str) -> None:
    world.environment = {"PREFECT_API_URL": prefect_server}
    recipe = world.recipe(tokenizer={"kind": "bpe", "vocab_size": 512, "special_tokens": []}, select=None)
    failed = world.run("run", recipe, "--set", "split.validation_fraction=0.000001", status=None)
    assert failed.returncode in (1, 2)
    assert "Traceback" not in failed.stderr
    *_, resume, reason = failed.stderr.strip().splitlines()
    again = f"millrace run {recipe} --set split.validation_fraction=0.000001"
    assert resume == f"once what is wrong is mended, go on with: {again}"
    assert reason.startswith("millrace: ")
    assert "validation" in reason
    (run,) = (world.folder / ".millrace" / "runs").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["steps"][-1]["state"] == "failed"
    assert (run / "report.html").exists()
