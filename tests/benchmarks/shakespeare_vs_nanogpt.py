"""The recipe shakespeare-char beside nanoGPT's CPU configuration, on the same text, cores and split.

    python -m tests.benchmarks.shakespeare_vs_nanogpt [--data ../shared/data] [--rounds 2]

In turns, never at once, on two threads each: the reference (tests/benchmarks/nanogpt_cpu.py), and `millrace run
shakespeare-char` as a person starts it, in a fresh storage. Of both the loop is timed, with its data and all else that
it does but for validation. Both predict every character of the last 10 % of the text, in consecutive windows of the
length that the model was trained with. Besides, what the whole process of each took, from its start to its end.

What is to be shown: 1.88 nats a character in at most a third of the reference's wall-clock, 1.65 in all of it.

Writes tests/benchmarks/results/shakespeare_vs_nanogpt.json.
"""

import argparse
import datetime
import json
import logging
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

log = logging.getLogger("shakespeare_vs_nanogpt")

RESULT = Path(__file__).parent / "results" / "shakespeare_vs_nanogpt.json"

THREADS = 2

FIRST, SECOND = 1.88, 1.65

VALIDATE_EVERY = 25
"""More often than the recipe, to see when a loss is reached; validation changes nothing of what is trained."""


def run(arguments: list[str], **environment: str) -> tuple[str, float, float]:
    """Run a process of this Python; return what it wrote, and its seconds of wall-clock and of CPU."""
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds, now = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, seconds, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def reference(text: Path) -> dict[str, Any]:
    """Return what the reference came to."""
    written, seconds, cpu = run(["-m", "tests.benchmarks.nanogpt_cpu", str(text), "--threads", str(THREADS)])
    return {**json.loads(written), "process_seconds": seconds, "process_cpu_seconds": cpu}


def recipe(text: Path, changes: list[str]) -> dict[str, Any]:
    """Return what our recipe came to; `changes` are values to set."""
    with tempfile.TemporaryDirectory() as folder:
        values = [f"pretrain.execution.threads={THREADS}", f"pretrain.validate_every={VALIDATE_EVERY}", *changes]
        written, seconds, cpu = run(
            ["-m", "flows.command", "run", "shakespeare-char", "--input", str(text), "--json"]
            + [part for value in values for part in ("--set", value)],
            MILLRACE_STORAGE=f"file://{folder}",
        )
        summary = json.loads(written)
        model = Path(urlparse(summary["model"]["uri"]).path)
        steps = {step["step"]: step["seconds"] for step in summary["steps"]}
        points = timeline(files(model))
    return {
        "validation_loss": summary["model"]["validation_loss"],
        "seconds": points[-1]["seconds"],
        "parameters": summary["model"]["parameters"],
        "steps": summary["model"]["steps"],
        "tokens": summary["model"]["tokens"],
        "curve": points,
        "pretrain_seconds": steps["pretrain"],
        "process_seconds": seconds,
        "process_cpu_seconds": cpu,
    }


def files(model: Path) -> Path:
    """Return the folder that holds the model's files."""
    return next(model.rglob("curve.jsonl")).parent


def timeline(folder: Path) -> list[dict[str, float]]:
    """Return the validations of a run: step, loss, and seconds of the loop up to there, without validations."""
    began = next(
        datetime.datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp()
        for line in (folder / "logs" / "ranks.log").read_text().splitlines()
        if line.endswith("training from the first step")
    )
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    timed = [json.loads(line) for line in (folder / "logs" / "throughput.jsonl").read_text().splitlines()]
    stamps = {line["step"]: line for line in timed}
    points, validating = [], 0.0
    for row in curve:
        if row.get("validation_loss") is None:
            continue
        here, before = stamps[row["step"]], stamps[row["step"] - 1]
        validating += max(0.0, here["time"] - before["time"] - here["step_seconds"])
        points.append(
            {"step": row["step"], "loss": row["validation_loss"], "seconds": here["time"] - began - validating}
        )
    return points


def compare(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be shown, and whether it is."""
    reached = next((point for point in ours["curve"] if point["loss"] <= FIRST), None)
    within = [point for point in ours["curve"] if point["seconds"] <= theirs["seconds"]]
    share = reached["seconds"] / theirs["seconds"] if reached else None
    best = min((point["loss"] for point in within), default=None)
    return {
        "reference_loss": theirs["validation_loss"],
        "seconds_to_1.88": reached["seconds"] if reached else None,
        "share_of_the_reference_to_1.88": share,
        "loss_in_the_references_time": best,
        "share_of_the_reference_to_the_end": ours["seconds"] / theirs["seconds"],
        "shown": share is not None and share <= 1 / 3 and best is not None and best <= SECOND,
    }


def main() -> None:
    """Measure, write the result file, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a value of the recipe, to try another")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    text = arguments.data.resolve() / "text" / "tinyshakespeare.txt"
    rounds = []
    for number in range(arguments.rounds):
        load = os.getloadavg()[0]
        theirs, ours = reference(text), recipe(text, arguments.set)
        rounds.append({"compared": compare(theirs, ours), "load": load, "reference": theirs, "recipe": ours})
        log.info("round %d (load %.1f): %s", number + 1, load, json.dumps(rounds[-1]["compared"], indent=1))
    report = {
        "command": "python -m tests.benchmarks.shakespeare_vs_nanogpt",
        "machine": f"{platform.machine()}, Python {platform.python_version()}, {THREADS} threads",
        "changes": arguments.set,
        "rounds": rounds,
    }
    arguments.result.parent.mkdir(exist_ok=True)
    arguments.result.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
