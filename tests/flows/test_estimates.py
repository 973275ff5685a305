"""What a training will take is said by `plan`, and what cannot be trained here is refused before its corpus is made."""

import json
import re
from pathlib import Path

import pytest

from flows.command import execute
from flows.estimates import training_estimate
from flows.recipe import load_recipe
from infra.errors import UserError
from models.machine_memory import MachineMemory, machine_memory

LARGE = "pretrain.model={layers: 48, width: 8192, heads: 64, sequence_length: 128}"


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/store")
    path = tmp_path / "text.txt"
    path.write_text("the mill wheel turns\n" * 50)
    return str(path)


def test_a_plan_says_what_the_training_takes(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["plan", "shakespeare-char", "--input", text]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pretrain: ")]
    assert "853,632 parameters with a vocabulary of 256; 600 steps of 2,048 tokens: 1,228,800 tokens" in lines[0]
    assert "a rank takes about 0.5 GiB with micro-batches of 16 (weights 5 MiB" in lines[1]
    assert execute(["plan", "shakespeare-char", "--input", text, "--set", LARGE]) == 0
    assert "does not fit into this machine as it is now: training needs about" in capsys.readouterr().out
    assert execute(["plan", "shakespeare-char", "--input", text, "--until", "tokens"]) == 0
    assert "pretrain: " not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("set_", "said"),
    [
        (LARGE, "GiB; use a smaller model"),
        ("pretrain.execution.hostfile=nowhere", "execution.hostfile=nowhere: cannot be read"),
        ("pretrain.execution.ranks=8", "execution.ranks=8 need a GPU each, and this machine has 1 (NVIDIA H200)"),
    ],
)
def test_what_this_machine_can_never_train_is_refused_before_its_corpus_is_made(
    set_: str, said: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "ranks" in set_:
        card = MachineMemory("cuda", 139 << 30, "NVIDIA H200", shared=False, devices=1)
        monkeypatch.setattr("flows.estimates.machine_memory", lambda **_idle: card)
    assert execute(["run", "shakespeare-char", "--input", text, "--set", set_]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert len(message.splitlines()) == 1
    assert not (tmp_path / "store/artifacts").exists()


def test_a_corpus_alone_is_made_where_its_training_is_impossible(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import deployments

    recipe = load_recipe("shakespeare-char", sets=[LARGE], inputs=[text])
    monkeypatch.setattr("flows.runs._leave", lambda _run: None)
    monkeypatch.setattr(deployments, "corpus_steps", lambda _recipe: None)
    assert deployments.corpus.fn(recipe)["status"] == "completed"
    with pytest.raises(UserError, match="use a smaller model"):
        deployments.pretrain.fn(recipe)


@pytest.mark.parametrize(
    ("name", "launcher", "takes"),
    [
        ("web-pages", "slurm", "7,342,848 parameters.* 4.25e.13 FLOPs.* of a GPU"),
        ("t5-tiny", "kubernetes", "2,256,000 tokens, 4.75e.13 FLOPs.*[MG]iB [(]weights"),  # targets are few
    ],
)
def test_what_a_training_elsewhere_takes(name: str, launcher: str, takes: str, text: str) -> None:
    where = {"launcher": launcher, "kubernetes": {"image": "i", "claim": "c"} if launcher == "kubernetes" else None}
    recipe = load_recipe(name, sets=[f"pretrain.execution={json.dumps(where)}"], inputs=[text])
    said = " ".join(training_estimate(recipe))
    assert re.search(takes, said), said


def test_a_gpu_that_nobody_may_use_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "nvidia-smi"
    shim.write_text("#!/bin/sh\necho '81920, NVIDIA A'\necho '81920, NVIDIA A'\necho '40960, NVIDIA B'\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("models.machine_memory.version", lambda _package: "2.13.0+cu130")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine_memory() == MachineMemory("cuda", 40 << 30, "NVIDIA B", shared=False, devices=3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert machine_memory() == MachineMemory("cuda", 80 << 30, "NVIDIA A", shared=False, devices=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b,MIG-c,MIG-d")
    assert machine_memory().devices == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine_memory().device == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert machine_memory(when_idle=True).device == "cpu"
    assert machine_memory(when_idle=True).free >= machine_memory().free
