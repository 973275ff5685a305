"""Wrong configurations of training: each is refused before a process is started, in one line with the numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flows.command import execute
from infra.artifacts import Artifact, Attempt
from infra.errors import UserError
from models.config import ModelConfig
from models.machine_memory import MachineMemory
from models.transformer import Transformer
from tasks.pretrain import PretrainConfig, pretrain
from tests.tasks.token_corpus import Corpus, make_corpus

MODEL = {"layers": 2, "heads": 2, "width": 32, "sequence_length": 32}
BASE: dict[str, Any] = {
    "model": MODEL,
    "optimizer": {"kind": "adamw", "learning_rate": 1e-12},
    "schedule": {"kind": "constant", "warmup_steps": 1},
    "steps": 3,
    "batch": 8,
    "execution": {"threads": 1},
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test where a process group is started."""

    def started(*_arguments: Any, **_options: Any) -> int:
        raise AssertionError("a process was started")

    monkeypatch.setattr("tasks.pretrain.supervision.run_group", started)


def model(folder: Path, corpus: Corpus, shape: dict[str, Any]) -> Artifact:
    """A model of random weights with the corpus' tokenizer."""
    folder.mkdir()
    index = json.loads(corpus.tokens.file("index.json").local().read_bytes())
    torch.manual_seed(3)
    cfg = ModelConfig.model_validate(shape)
    network = Transformer(cfg, index["vocab_size"])
    save_file({name: p.detach().clone() for name, p in network.named_parameters()}, folder / "model.safetensors")
    about = {"vocab_size": index["vocab_size"], "eod": index["eod"], "model": cfg.model_dump()}
    (folder / "config.json").write_text(json.dumps(about))
    shutil.copyfile(corpus.tokenizer.file("tokenizer.json").local(), folder / "tokenizer.json")
    return Artifact.of(folder, "pretrain")


RECIPES = {
    "batch over ranks": (
        ["pretrain.batch=10", "pretrain.execution.ranks=4"],
        "batch=10 sequences do not divide among ranks=4",
    ),
    "micro-batch": (
        ["pretrain.batch=12", "pretrain.execution.micro_batch=5"],
        "leaves 12 sequences a rank, which micro_batch=5 does not divide",
    ),
    "unknown key": (["pretrain.model.layer=3"], "pretrain.model.layer: unknown key; did you mean layers?"),
    "unknown preset": (["pretrain.preset=gpt2-124"], "did you mean gpt2-124m?"),
    "unknown kind": (["pretrain.optimizer.kind=adam"], "pretrain.optimizer.kind: no kind is called 'adam'; did you"),
    "table of positions": (
        ["pretrain.model={positions: learned, max_positions: 64, sequence_length: 128}"],
        "sequence_length=128 is longer than the table of learned positions, max_positions=64",
    ),
    "packed windows": (
        ["tokens={packing: best_fit, sequence_length: 256}"],
        "pretrain.model.sequence_length",
    ),
    "model to start from": (
        ["pretrain.initial_weights=nowhere"],
        "pretrain.initial_weights: pretrain/nowhere: no such artifact",
    ),
    "parallelism": (
        ["pretrain.execution.ranks=3", "pretrain.execution.tensor_parallel=2"],
        "ranks=3 do not divide into replicas of tensor_parallel=2",
    ),
    "optimiser under ZeRO": (
        ["pretrain.optimizer={kind: adafactor}", "pretrain.execution.zero_stage=1"],
        "execution.zero_stage=1 cuts these into flat partitions",
    ),
    "one process": (
        ["pretrain.batch=12", "pretrain.execution.ranks=2", "pretrain.execution.launcher=python"],
        "execution.launcher=python starts one rank, not execution.ranks=2",
    ),
    "objective": (["pretrain.objective.kind=masked"], "family"),
    "dial": (["pretrain.dial.minutes=3"], "minutes needs flops_per_second"),
    "steps": (["pretrain.steps=10", "pretrain.schedule.warmup_steps=20"], "warmup_steps=20 leaves no step of steps=10"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_cannot_train_is_refused_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sets, said = RECIPES[name]
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/store")
    text = tmp_path / "text.txt"
    text.write_text("the mill wheel turns\n" * 50)
    arguments = ["plan", "shakespeare-char", "--input", str(text)]
    status = execute([*arguments, *(part for value in sets for part in ("--set", value))])
    message = capsys.readouterr().err
    assert status == 2
    assert said in message
    assert len(message.splitlines()) == 1
    assert "Traceback" not in message


INPUTS: dict[str, tuple[dict[str, Any], str]] = {
    "checkpoint": ({"execution": {"resume": "required"}}, "checkpoint"),
    "memory": (
        {"batch": 1024, "execution": {"micro_batch": 1024}},
        r"needs about 0\.7 GiB \(weights .* activations 2\d\d MiB.* has 450 MiB; execution.micro_batch=256 would fit",
    ),
    "initial shape": (
        {"model": {**MODEL, "layers": 3, "activation": "relu2"}},
        "model.layers is 2 there and 3 here; model.activation is swiglu there and relu2 here",
    ),
    "too little text": ({"batch": 1 << 20}, "tokens"),
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.usefixtures("nothing_starts")
def test_inputs_that_do_not_fit_are_refused_before_a_process_starts(
    name: str, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, said = INPUTS[name]
    small = MachineMemory("cpu", 450 << 20, "this machine", shared=True)
    monkeypatch.setattr("tasks.pretrain.inputs.machine_memory", lambda: small)
    cfg = PretrainConfig.model_validate({**BASE, **changes})
    initial = {"initial": model(tmp_path / "model", corpus, MODEL)} if name == "initial shape" else {}
    with pytest.raises(UserError, match=said):
        pretrain.fn(cfg, corpus.tokens, corpus.tokenizer, Attempt.at(tmp_path / "out"), **initial)


@pytest.mark.usefixtures("nothing_starts")
def test_a_vocabulary_that_is_not_the_tokens_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    cfg = PretrainConfig.model_validate(BASE)
    other = tmp_path / "other"
    shutil.copytree(corpus.tokenizer.local(), other, symlinks=False)
    spec = json.loads((other / "tokenizer.json").read_text())
    (other / "tokenizer.json").write_text(json.dumps({**spec, "version": "1.0 "}))
    changed = Artifact.of(other, "tokenizer")
    with pytest.raises(
        UserError, match=rf"made with tokenizer {corpus.tokenizer.content[:12]}, this one is {changed.content[:12]}"
    ):
        pretrain.fn(cfg, corpus.tokens, changed, Attempt.at(tmp_path / "out"))
    initial = tmp_path / "initial"
    artifact = model(initial, corpus, MODEL)
    assert artifact.file("tokenizer.json").sha256 == corpus.tokenizer.file("tokenizer.json").sha256
    (initial / "tokenizer.json").write_text(json.dumps(spec, indent=3))
    with pytest.raises(UserError, match=r"its tokenizer\.json is another one than that of the training tokens"):
        pretrain.fn(
            cfg,
            corpus.tokens,
            corpus.tokenizer,
            Attempt.at(tmp_path / "again"),
            initial=Artifact.of(initial, "pretrain"),
        )


@pytest.mark.slow
def test_training_goes_on_from_the_weights_of_another_model_by_the_dial(corpus: Corpus, tmp_path: Path) -> None:
    dial = {"dial": {"depth": 1, "vocab_size": 27}, "model": {"sequence_length": 32}, "steps": 3, "batch": 8}
    still = {"optimizer": {"kind": "adamw", "learning_rate": 1e-12}, "execution": {"threads": 1}}
    cfg = PretrainConfig.model_validate({**dial, **still})
    initial = model(tmp_path / "model", corpus, cfg.model.model_dump())
    out = Attempt.at(tmp_path / "out")
    pretrain.fn(cfg, corpus.tokens, corpus.tokenizer, out, initial=initial)
    before, after = (load_file(folder / "model.safetensors") for folder in (tmp_path / "model", out.directory))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=1e-4, msg=name)
    reasons = (out.directory / "logs" / "dial.txt").read_text()
    assert "model.width = 64: 64 a layer, from 512 on" in reasons
    assert "steps = 3: the recipe says so; the dial would take" in reasons
