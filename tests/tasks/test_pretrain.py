"""Training: it learns, it goes on exactly where it was killed, and ranks only share the work."""

import json
import math
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.artifacts import Artifact, Attempt
from infra.errors import DataError, PreemptedError, StepTimeoutError, UserError, WorkerDiedError
from infra.launch import free_port, run_group
from infra.manifests import Counters
from infra.preemption import write_note
from infra.settings import settings
from infra.storage import Storage
from models.job import Failure, Job, failure_folder, stop_note
from tasks.mix import MixConfig, mix
from tasks.pretrain import PretrainConfig, pretrain
from tasks.tokenizer import CharactersConfig, tokenizer
from tasks.tokens import TokensConfig, tokens
from tests.running import forget_settings
from tests.tasks.text_corpus import document, parts
from tests.tasks.token_corpus import Corpus, make_corpus

FINAL = ("model.safetensors", "config.json", "training.json", "curve.jsonl", "tokenizer.json")

BASE: dict[str, Any] = {
    "model": {"layers": 2, "heads": 2, "width": 32, "sequence_length": 32},
    "optimizer": {"kind": "adamw", "learning_rate": 0.01},
    "schedule": {"kind": "wsd", "warmup_steps": 4},
    "steps": 24,
    "batch": 8,
    "validate_every": 10,
    "validation_tokens": 1000,
    "execution": {"threads": 1, "checkpoint_seconds": 0, "checkpoint_every": 12},
}

SUPERVISOR = """
import pickle, sys
from models.job import Failure, Job, failure_folder
from tasks.pretrain import pretrain
cfg, tokens, tokenizer, out = pickle.load(open(sys.argv[1], "rb"))
pretrain.fn(cfg, tokens, tokenizer, out)
"""


def config(**changes: Any) -> PretrainConfig:
    """The small configuration, changed; `execution` is merged."""
    execution = {**BASE["execution"], **changes.pop("execution", {})}
    return PretrainConfig.model_validate({**BASE, **changes, "execution": execution})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


def train(cfg: PretrainConfig, corpus: Corpus, folder: Path) -> Counters:
    return pretrain.fn(cfg, corpus.tokens, corpus.tokenizer, Attempt.at(folder))


def curve(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


def go_on(folder: Path) -> Path:
    """Return a new attempt's folder that finds the checkpoints of `folder` and nothing else of it."""
    again = folder.with_name(f"{folder.name}-again")
    shutil.copytree(f"{folder}.partial", f"{again}.partial")
    return again


@pytest.mark.slow
def test_a_model_learns_and_its_artifact_can_be_used(corpus: Corpus, tmp_path: Path) -> None:
    from models.generation import generate, load_model
    from models.scoring import score_documents

    out = tmp_path / "model"
    cfg = config(optimizer={"kind": "muon"}, steps=80, batch=16, execution={"micro_batch": 8})
    counters = train(cfg, corpus, out)
    training = json.loads((out / "training.json").read_text())
    rows = curve(out)
    assert [row["step"] for row in rows] == list(range(1, 81))
    assert rows[0]["loss"] == pytest.approx(math.log(27), abs=0.3)  # a uniform guess over the vocabulary
    assert training["validation_loss"] == rows[-1]["validation_loss"] < 1.6 < 2.9  # 2.9: characters by frequency alone
    assert rows[9]["validation_loss"] > rows[39]["validation_loss"]
    assert training["validation_bits_per_byte"] == pytest.approx(training["validation_loss"] / math.log(2), rel=1e-3)
    assert counters.values["tokens"] == training["tokens"] == 80 * 16 * 32
    assert counters.metrics["tokens_per_second"] > 0
    assert counters.metrics["mfu"] is None
    assert "CPU" in counters.metrics["mfu_reason"]
    assert any(path.name.startswith("events") for path in (out / "logs").iterdir())

    model = load_model(out)
    scored = score_documents(model, [corpus.held_out], stride=32)[0]  # the windows of in-loop validation
    assert scored.bits_per_byte == pytest.approx(training["validation_bits_per_byte"], rel=1e-3)
    assert score_documents(model, [corpus.held_out])[0].bits_per_byte < scored.bits_per_byte - 0.01  # more context
    first, second, other = (generate(model, "the mill ", max_tokens=80, seed=s) for s in (1, 1, 2))
    assert first == second != other
    assert len(set(first.split()) & set(corpus.held_out.split())) >= 3


@pytest.mark.slow
def test_a_killed_training_ends_in_the_same_files_and_leaves_no_process(corpus: Corpus, tmp_path: Path) -> None:
    cfg = config(optimizer={"kind": "muon"}, precision="bf16_autocast", steps=150, execution={"checkpoint_every": 20})
    undisturbed = tmp_path / "undisturbed"
    train(cfg, corpus, undisturbed)
    killed = tmp_path / "killed"
    call = tmp_path / "call.pickle"
    call.write_bytes(pickle.dumps((cfg, corpus.tokens, corpus.tokenizer, Attempt.at(killed))))
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(call)])
    markers = tmp_path / "killed.partial" / "checkpoints"
    wait_until(lambda: any(markers.glob("*/complete.json")), seconds=300)
    os.kill(supervisor.pid, signal.SIGKILL)
    supervisor.wait()
    wait_until(lambda: not processes_of(tmp_path / "killed.scratch"), seconds=60)
    assert not (killed / "model.safetensors").exists(), "it was over before it was killed"
    again = Attempt(tmp_path / "again", tmp_path / "killed.scratch", Attempt.at(killed).partial)
    again.directory.mkdir()
    pretrain.fn(cfg, corpus.tokens, corpus.tokenizer, again)
    assert "resumed after step" in (again.directory / "logs" / "ranks.log").read_text()
    for name in FINAL:
        assert (again.directory / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("how", ["signal", pytest.param("note", marks=pytest.mark.long)])
def test_a_training_that_is_told_to_stop_saves_first_and_goes_on_to_the_same_files(
    corpus: Corpus, tmp_path: Path, how: str
) -> None:
    cfg = config(steps=400, execution={"checkpoint_seconds": 1e6})  # it makes no checkpoint unless it is told to
    out = Attempt.at(tmp_path / "told")

    def tell() -> None:
        wait_until(lambda: "training from the first" in read_or_empty(out.directory / "logs/ranks.log"), seconds=300)
        if how == "note":
            write_note(stop_note(out.scratch))
        else:  # as Slurm sends it to all processes of a job
            (rank,) = (pid for pid, line in processes_of(out.scratch).items() if "models.train" in line)
            os.kill(rank, signal.SIGUSR1)

    teller = threading.Thread(target=tell)
    teller.start()
    with pytest.raises(PreemptedError, match=r"the checkpoint after step \d+ of 400 is complete"):
        pretrain.fn(cfg, corpus.tokens, corpus.tokenizer, out)
    teller.join()
    assert not stop_note(out.scratch).exists()
    again = go_on(out.directory)
    train(cfg, corpus, again)
    train(cfg, corpus, tmp_path / "undisturbed")
    assert "resumed after step" in (again / "logs" / "ranks.log").read_text()
    for name in FINAL:
        assert (again / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes(), name


def test_ranks_that_are_told_to_stop_before_they_can_save_were_preempted_and_are_not_tried_again(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ended(argv: list[str], **_: Any) -> int:
        write_note(stop_note(Job.model_validate_json(Path(argv[-1]).read_bytes()).scratch))
        return -signal.SIGTERM  # sent to all processes of the job, while ranks still import

    monkeypatch.setattr("tasks.pretrain.supervision.run_group", ended)
    with pytest.raises(PreemptedError, match="before they could save"):
        train(config(), corpus, tmp_path / "out")


def read_or_empty(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_run_that_must_go_on_refuses_to_begin_anew_before_a_process_is_started(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.pretrain.supervision.run_group", lambda *_, **__: pytest.fail("a process was started"))
    (tmp_path / "out.partial" / "checkpoints" / "step-00000012-aaaaaaaa").mkdir(parents=True)
    with pytest.raises(UserError, match=r"execution\.resume=required, but .* has no complete checkpoint \(1 unfin"):
        train(config(execution={"resume": "required"}), corpus, tmp_path / "out")


def wait_until(condition: Any, *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def processes_of(folder: Path) -> dict[int, str]:
    """Return the command lines of living processes that mention `folder`, by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(folder) in line:
                found[int(entry.name)] = line
    return found


@pytest.fixture(scope="module")
def one_rank(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The curve of one process without ZeRO."""
    out = tmp_path_factory.mktemp("one") / "rank"
    train(config(), corpus, out)
    return curve(out)


@pytest.mark.long
def test_two_ranks_under_zero_follow_the_curve_of_one_and_resume_exactly(
    corpus: Corpus, tmp_path: Path, one_rank: list[dict[str, Any]]
) -> None:
    """From end to end; tests/models/test_parallel.py has every other way to cut a model over ranks."""
    cfg = config(execution={"ranks": 2, "zero_stage": 3, "launcher": "deepspeed"})
    out = tmp_path / "two"
    train(cfg, corpus, out)
    rows = curve(out)
    for name in ("loss", "validation_loss", "gradient_norm"):
        mine = [row[name] for row in rows if name in row]
        assert mine == pytest.approx([row[name] for row in one_rank if name in row], abs=1e-3), name
    again = go_on(out)
    train(cfg, corpus, again)
    assert "resumed after step 12" in (again / "logs" / "ranks.log").read_text()
    for name in FINAL:
        assert (again / name).read_bytes() == (out / name).read_bytes(), name


@pytest.mark.slow
def test_two_ranks_that_accumulate_gradients_follow_the_curve_of_one_and_leave_no_shared_memory(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []

    def recorded() -> int:
        ports.append(free_port())
        return ports[-1]

    monkeypatch.setattr("infra.launch.group.free_port", recorded)
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    moved: dict[str, Any] = {"optimizer": {"kind": "muon", "learning_rate": 0.01}}
    train(config(**moved), corpus, alone)
    train(config(**moved, execution={"ranks": 2, "micro_batch": 2}), corpus, shared)
    for name in ("loss", "validation_loss", "gradient_norm"):
        mine = [row[name] for row in curve(shared) if name in row]
        assert mine == pytest.approx([row[name] for row in curve(alone) if name in row], abs=1e-3), name
    assert ports
    assert not [path for port in ports for path in Path("/dev/shm").glob(f"*_{port}_*")]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 1])
def test_a_run_that_diverges_is_given_up_with_a_reason(corpus: Corpus, tmp_path: Path, stage: int) -> None:
    cfg = config(optimizer={"kind": "adamw", "learning_rate": 1e30}, max_bad_steps=3, execution={"zero_stage": stage})
    with pytest.raises(DataError, match="non-finite loss or gradient, more than max_bad_steps=3"):
        train(cfg, corpus, tmp_path / "out")


def out_of_memory(argv: list[str]) -> int:
    """Be a group whose ranks find no memory, as far as its supervisor sees."""
    job = Job.model_validate_json(Path(argv[-1]).read_bytes())
    failure_folder(job.scratch).mkdir()
    failure = Failure(kind="memory", rank=0, message="out of memory: tried to allocate 9 GiB")
    (failure_folder(job.scratch) / "rank-00000.json").write_text(failure.model_dump_json())
    return 1


@pytest.mark.slow
def test_out_of_memory_goes_on_with_half_the_micro_batch_and_the_same_curve(
    corpus: Corpus,
    tmp_path: Path,
    one_rank: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = tmp_path / "first"
    train(config(), corpus, first)
    again = go_on(first)  # from a checkpoint that was made with the whole micro-batch
    calls = []

    def failing_once(argv: list[str], **kwargs: Any) -> int:
        calls.append(argv)
        return out_of_memory(argv) if len(calls) == 1 else run_group(argv, **kwargs)

    monkeypatch.setattr("tasks.pretrain.supervision.run_group", failing_once)
    counters = train(config(), corpus, again)
    assert "resumed after step 12" in (again / "logs" / "ranks.log").read_text()
    assert len(calls) == 2
    assert counters.metrics["micro_batch"] == 4
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == [
        "pretrain: out of memory: tried to allocate 9 GiB; going on with execution.micro_batch=4, batch=8 as before"
    ]
    losses = [row["loss"] for row in curve(again)]
    assert losses == pytest.approx([row["loss"] for row in one_rank], abs=1e-3)


def test_a_later_life_begins_with_the_micro_batch_that_an_earlier_one_came_down_to(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int | None] = []

    def killed(argv: list[str], **_: Any) -> int:
        tried.append(Job.model_validate_json(Path(argv[-1]).read_bytes()).execution.micro_batch)
        return out_of_memory(argv) if len(tried) == 1 else -signal.SIGKILL

    def live(folder: Path, **execution: Any) -> None:
        with pytest.raises(WorkerDiedError):
            train(config(execution=execution), corpus, folder)

    monkeypatch.setattr("tasks.pretrain.supervision.run_group", killed)
    live(tmp_path / "out")
    again = go_on(tmp_path / "out")
    live(again)
    live(again, micro_batch=2)
    live(again, activation_checkpointing="full")  # takes less memory: what was found out says nothing
    assert tried == [None, 4, 4, 2, None]


def test_what_is_offloaded_to_a_disk_has_a_folder_of_the_runs_own_there_that_goes_with_its_ranks(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, used = tmp_path / "disk", list[Path]()
    disk.mkdir()
    (disk / "own").touch()

    def killed(argv: list[str], **_: Any) -> int:
        folder = Job.model_validate_json(Path(argv[-1]).read_bytes()).execution.nvme_path
        assert folder is not None
        (folder / "zero_stage_3").mkdir(parents=True)
        used.append(folder)
        return -signal.SIGKILL

    monkeypatch.setattr("tasks.pretrain.supervision.run_group", killed)
    execution = {"zero_stage": 3, "offload_optimizer": "nvme", "nvme_path": str(disk)}
    for steps in (20, 20, 10):
        with pytest.raises(WorkerDiedError):
            train(config(execution=execution, steps=steps, guard=None), corpus, tmp_path / f"out-{len(used)}")
    assert used[0] == used[1] != used[2]  # so that a run finds what a killed life of it has left
    assert {folder.parent for folder in used} == {disk}
    assert [path.name for path in disk.iterdir()] == ["own"]


def test_memory_too_small_for_one_sequence_is_an_error(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def failing(argv: list[str], **_: Any) -> int:
        tried.append(Job.model_validate_json(Path(argv[-1]).read_bytes()).execution.micro_batch)
        return out_of_memory(argv)

    monkeypatch.setattr("tasks.pretrain.supervision.run_group", failing)
    with pytest.raises(DataError, match=r"not even execution\.micro_batch=1 fits into memory \(out of memory: tried"):
        train(config(), corpus, tmp_path / "out")
    assert tried == [None, 4, 2, 1]


def test_a_training_that_makes_no_progress_is_ended_and_names_the_limit(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
import sys, time
from pathlib import Path
from models.job import Job, stack_folder
from models.watch import StackDump

def where_it_hangs():
    time.sleep(300)

job = Job.model_validate_json(Path(sys.argv[-1]).read_bytes())
watch = StackDump(stack_folder(job.scratch), 0, 1.0)
print("asleep", flush=True)
where_it_hangs()
"""

    def sleeping(argv: list[str], **kwargs: Any) -> int:
        return run_group(["-c", program, *argv], **kwargs)

    monkeypatch.setattr("tasks.pretrain.supervision.run_group", sleeping)
    with pytest.raises(StepTimeoutError, match=r"no progress for 8 s.*execution\.hang_seconds.*asleep"):
        train(config(execution={"hang_seconds": 8}), corpus, tmp_path / "out")
    assert not processes_of(tmp_path / "out.scratch")
    log = (tmp_path / "out" / "logs" / "ranks.log").read_text()
    assert "in where_it_hangs" in log[log.index("where rank 0 was when it was ended") :]


def test_too_little_text_is_a_mistake_of_the_user_with_the_numbers(tmp_path: Path) -> None:
    small = make_corpus(tmp_path / "small", characters=200)
    with pytest.raises(UserError, match="which make 4 sequences of sequence_length=32, fewer than one batch=8"):
        train(config(), small, tmp_path / "out")


def test_tokens_of_another_tokenizer_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    other = make_corpus(tmp_path / "other", characters=500)
    (tmp_path / "other" / "tokenizer" / "tokenizer_config.json").write_text('{"changed": true}')
    changed = Artifact.of(tmp_path / "other" / "tokenizer")
    with pytest.raises(UserError, match="make the tokens again"):
        pretrain.fn(config(), other.tokens, changed, Attempt.at(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gradient_cliping": 0.5}, "gradient_cliping"),
        ({"batch": 9, "execution": {"ranks": 2}}, "batch=9 sequences do not divide among ranks=2"),
        ({"precision": "bf16"}, "execution.zero_stage"),
        ({"optimizer": {"kind": "adafactor"}, "execution": {"zero_stage": 2}}, "whole matrices"),
        ({"optimizer": {"learning_rate": 0.1}}, "optimizer"),
    ],
)
def test_a_wrong_configuration_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**changes)


def test_how_a_model_is_trained_is_not_part_of_its_identity() -> None:
    assert config(execution={"ranks": 4, "zero_stage": 3}).identity() == config().identity()
    assert config(seed=1).identity() != config().identity()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Windows of whole documents, in two stages, with what fills them up."""
    folder = tmp_path_factory.mktemp("packed")
    chooser = random.Random(3)
    texts = [" ".join(chooser.choices(["mill", "turns", "water", "stone"], k=chooser.randrange(2, 9)))
             for _ in range(300)]  # fmt: skip
    made = parts(folder / "parts", [[document(text, f"http://{at}") for at, text in enumerate(texts)]],
                 [[document(text, f"http://held/{at}") for at, text in enumerate(texts[:40])]])  # fmt: skip
    tokenizer.fn(CharactersConfig(kind="characters"), made, Attempt.at(folder / "vocabulary"))
    stages = [{"name": "main", "share": 0.7}, {"name": "long", "share": 0.3, "where": {"min_bytes": 20}}]
    mix.fn(MixConfig.model_validate({"stages": stages}), made, Attempt.at(folder / "mixture"))
    vocabulary, mixture = Artifact.of(folder / "vocabulary"), Artifact.of(folder / "mixture")
    cfg = TokensConfig(packing="best_fit", sequence_length=32)
    tokens.fn(cfg, made, vocabulary, Attempt.at(folder / "tokens"), mixture=mixture)
    return Corpus(Artifact.of(folder / "tokens"), vocabulary, "")


@pytest.mark.slow
def test_what_fills_up_windows_weighs_nothing_on_any_rank_in_any_micro_batch(packed: Corpus, tmp_path: Path) -> None:
    curves = []
    for ranks, micro_batch in ((1, 8), (2, 2)):
        out = tmp_path / f"{ranks}"
        execution = {"ranks": ranks, "micro_batch": micro_batch}
        train(config(document_mask=True, steps=10, execution=execution), packed, out)
        curves.append(curve(out))
        log = (out / "logs" / "ranks.log").read_text()
        assert "stage main: 7 steps read its" in log
        assert "stage long: 3 steps read its" in log
    for name in ("loss", "gradient_norm", "validation_loss"):
        one, other = ([row[name] for row in rows if name in row] for rows in curves)
        assert one == pytest.approx(other, abs=1e-4), name
    characters = json.loads((tmp_path / "1" / "config.json").read_text())["vocab_size"]
    assert curves[0][0]["loss"] == pytest.approx(math.log(characters), abs=0.3)


def test_windows_of_another_length_are_refused(packed: Corpus, corpus: Corpus, tmp_path: Path) -> None:
    cfg = config(model={**BASE["model"], "sequence_length": 16})
    with pytest.raises(UserError, match=r"windows of 32 tokens and model\.sequence_length=16 with"):
        train(cfg, packed, tmp_path / "packed")
    with pytest.raises(UserError, match="document_mask needs to know where documents end"):
        train(config(document_mask=True), corpus, tmp_path / "row")
    with pytest.raises(UserError, match=r"stage long has share=0\.3 of steps=1, which is not one step"):
        train(config(steps=1, schedule={"kind": "constant", "warmup_steps": 0}), packed, tmp_path / "short")


@pytest.mark.slow
def test_shards_on_object_storage_train_the_same_model_with_and_without_room_for_them(
    corpus: Corpus, s3_bucket: str, tmp_path: Path, one_rank: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(f"{s3_bucket}/tokens")
    files = []
    for file in corpus.tokens.files():
        storage.upload(file.local(), file.path)
        files.append(file.model_copy(update={"root": storage.url, "location": file.path}))
    remote = Corpus(Artifact.external(files), corpus.tokenizer, "")
    cache = settings().workspace / "cache" / "shards"
    for room in (0, 1 << 30):
        monkeypatch.setenv("MILLRACE_CACHE_BYTES", str(room))
        forget_settings()
        out = tmp_path / str(room)
        train(config(), remote, out)
        assert curve(out) == one_rank
        held = {path.name for path in cache.iterdir()} - {"lock"}
        # The training shard is read less than half in these steps, so it is not worth its room.
        assert held == ({f.sha256 for f in files if f.path == "validation/00000.bin"} if room else set())


def test_a_cache_without_room_for_the_ends_of_documents_is_refused(
    packed: Corpus, s3_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(f"{s3_bucket}/tokens")
    storage.upload(packed.tokens.file("index.json").local(), "index.json")
    files = [f.model_copy(update={"root": storage.url, "location": f.path}) for f in packed.tokens.files()]
    monkeypatch.setenv("MILLRACE_CACHE_BYTES", "100")
    forget_settings()
    with pytest.raises(UserError, match=r"from \d+ bytes that must lie in the local cache .* MILLRACE_CACHE_BYTES is"):
        train(config(), Corpus(Artifact.external(files), packed.tokenizer, ""), tmp_path / "out")
