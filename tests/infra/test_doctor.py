"""`millrace doctor` finds what is missing, and says what to do about it."""

import os
import socket
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path

import pytest

from infra import doctor
from infra.doctor import Check
from infra.errors import MillraceError
from infra.settings import Settings


def probe(name: str) -> Check:
    return doctor._probed(name, doctor.PROBES[name][1])


@pytest.mark.slow
def test_a_machine_on_which_make_venv_has_run_lacks_nothing() -> None:
    checks = doctor.diagnose(Settings())
    assert {"python", "packages", "fasttext", "compiler", "extraction", "languages", "training", "storage"} <= {
        check.name for check in checks
    }
    assert [check for check in checks if not check.ok and check.name not in ("disk", "memory")] == []
    assert not list(Path.cwd().rglob("doctor*")), "the probe of the storage leaves something behind"


def test_extraction_that_would_yield_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lxml_html_clean.py").write_text("raise ImportError('no lxml_html_clean')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = probe("extraction")
    assert not check.ok
    assert "lxml_html_clean" in check.detail
    assert "lxml_html_clean" in check.fix


def test_a_probe_that_kills_its_process_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spacy.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check = probe("words")
    assert not check.ok
    assert "-6" in check.detail


def test_a_release_of_fastapi_that_crashes_the_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.165.0" if name == "fastapi" else real(name))
    packages, prefect = doctor._packages()
    assert packages.ok
    assert not prefect.ok
    assert "fastapi 0.165.0" in prefect.detail


def test_two_distributions_of_fasttext_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.9.3" if name == "fasttext" else real(name))
    check = doctor._fasttext()
    assert not check.ok
    assert "fasttext 0.9.3 and fasttext-numpy2-wheel" in check.detail


def test_what_offload_to_a_disk_lacks_is_named_and_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    there = doctor._libaio()
    assert there.ok
    assert "libaio.h is there" in there.detail or not Path("/usr/include/libaio.h").exists()
    monkeypatch.setenv("CXX", "no-such-compiler")
    missing = doctor._libaio()
    assert missing.ok
    assert "apt-get install libaio-dev" in missing.detail


def test_a_missing_compiler_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    check = doctor._compiler()
    assert not check.ok
    assert "no-such-compiler" in check.detail


def test_storage_on_s3_is_tried_for_real(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor._storage(Settings(storage=f"{s3_bucket}/prefix")).ok
    missing = doctor._storage(Settings(storage="s3://millrace-no-such-bucket"))
    assert not missing.ok
    assert "millrace-no-such-bucket" in missing.detail


def test_a_server_that_does_not_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/api")
        check = doctor._server()
    assert not check.ok
    assert "PREFECT_API_URL" in check.fix


@pytest.mark.parametrize(
    ("cuda", "hidden", "said"),
    [
        (None, None, r"2 GPUs \(GPU 0: NVIDIA H200.*\), but torch 2.13.0 is a build for CPUs"),
        ("13.0", None, "wants a newer driver for its CUDA 13.0"),
        (None, "", None),  # their user wants it so
    ],
)
def test_gpus_that_torch_does_not_see_are_a_finding(
    cuda: str | None, hidden: str | None, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(
        "#!/bin/sh\nfor n in 0 1; do echo GPU $n: NVIDIA H200 '(UUID: GPU-8f)'; done\n"
    )
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(MillraceError, match=said) if said else nullcontext():
        doctor._hidden_gpus("2.13.0", cuda)
