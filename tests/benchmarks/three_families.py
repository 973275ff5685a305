"""The three families on real prose: BERT and T5 against the unigram line, GPT against the 5-gram line.

    .venv/bin/python -m tests.benchmarks.three_families              # 15 minutes on two idle cores
    .venv/bin/python -m tests.benchmarks.three_families bert t5      # these anew
    .venv/bin/python -m tests.benchmarks.three_families gpt --set pretrain.steps=200    # a trial, which is not kept

Runs the shipped recipes bert-tiny, t5-tiny and gpt-tiny, as a user would with `millrace run`, on the texts of abc.zip
and brown.zip (of NLTK; ../shared/data): ABC's news in documents of 40 lines, Brown's texts whole, without their tags.
What counts is what `evaluate` measures on documents that were held out; the lines that it draws know the same training
text.  Writes results/three_families.json, and the curves as results/three_families.svg.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.report.plots import loss_plot
from tasks.report.run import CurvePoint

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ROOT.parent / "shared" / "data" / "text"
RESULTS = Path(__file__).parent / "results"
FAMILIES = {"bert": "reference/unigram", "t5": "reference/unigram", "gpt": "reference/5-gram"}
"""The line that each family has to be below."""
COST = {"bert": "nats_per_token", "t5": "nats_per_token", "gpt": "bits_per_byte"}
LINES = 40
"""Lines of a document of ABC's news, which are one file a year and subject."""


def documents() -> Iterator[str]:
    """Yield the texts of both collections."""
    with zipfile.ZipFile(TEXTS / "abc.zip") as files:
        for name in ("abc/rural.txt", "abc/science.txt"):
            lines = files.read(name).decode("latin-1").splitlines(keepends=True)
            yield from ("".join(lines[start : start + LINES]) for start in range(0, len(lines), LINES))
    with zipfile.ZipFile(TEXTS / "brown.zip") as files:
        names = [name for name in files.namelist() if re.fullmatch(r"brown/c[a-r]\d\d", name)]
        yield from (untagged(files.read(name).decode()) for name in sorted(names))


def untagged(text: str) -> str:
    """Return a text of Brown as prose: without tags, quotation marks and punctuation where prose has them."""
    lines = []
    for line in text.splitlines():
        if words := [word.rpartition("/")[0] for word in line.split()]:
            prose = " ".join(words).replace("`` ", '"').replace(" ''", '"').replace("( ", "(")
            lines.append(re.sub(r" ([,.;:?!)])", r"\1", prose))
    return "\n".join(lines) + "\n"


def run(family: str, texts: Path, storage: Path, sets: list[str]) -> dict[str, Any]:
    """Run a recipe and return what it measured, with the points of its curve."""
    command = [sys.executable, "-m", "flows.command", "run", f"{family}-tiny", "--input", str(texts), "--json"]
    command += [part for each in sets for part in ("--set", each)]
    started = time.monotonic()
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "MILLRACE_STORAGE": storage.as_uri()},
        stdout=subprocess.PIPE,
        check=False,
    )
    if ended.returncode:
        sys.exit(f"{' '.join(command)}: exit status {ended.returncode}")
    summary = json.loads(ended.stdout)
    evaluation = summary["evaluation"]
    pretrain = next(step for step in summary["steps"] if step["step"] == "pretrain")
    (curve,) = storage.glob(f"artifacts/pretrain/{pretrain['digest']}/*/curve.jsonl")
    rows = [json.loads(line) for line in curve.read_text().splitlines()]
    measured = json.loads((curve.parents[1] / "manifest.json").read_text())["counters"]["metrics"]
    cost, line = COST[family], FAMILIES[family]
    return {
        "recipe": f"{family}-tiny",
        "parameters": summary["model"]["parameters"],
        "steps": summary["model"]["steps"],
        "tokens": summary["model"]["tokens"],
        "train_tokens": summary["corpus"]["train_tokens"],
        "training_seconds": round(measured["training_seconds"], 1),
        "tokens_per_second": round(measured["tokens_per_second"]),
        "data_wait_share": round(measured["data_wait_share"], 4),
        "run_seconds": round(time.monotonic() - started, 1),
        "metric": cost,
        "model": evaluation["validation"],
        **{task: values for task, values in evaluation.items() if task.startswith("reference/")},
        "against": line.removeprefix("reference/"),
        "margin": round(evaluation[line][cost] - evaluation["validation"][cost], 4),
        "below": evaluation["validation"][cost] < evaluation[line][cost],
        "curve": [[row["step"], row["loss"], row.get("validation_loss")] for row in rows if row["step"] % 10 == 0],
    }


def draw(measured: dict[str, Any]) -> str:
    """Return a picture (SVG) of the curves in nats a target, drawn as the report draws them."""
    panels = []
    for number, (family, found) in enumerate(measured.items()):
        points = [CurvePoint(step=step, train=train, validation=held) for step, train, held in found["curve"]]
        plot = loss_plot(points, log_x=False)
        assert plot is not None
        metric, line = found["metric"], found["against"]
        ours, other = found["model"][metric], found[f"reference/{line}"][metric]
        title = f"{family}: {ours:.3f} {metric.replace('_', ' ')}; {line}: {other:.3f}"
        panels.append(
            f'<g transform="translate({60 + number * 420} 40)"><text y="-14" font-weight="bold">{title}</text>'
            '<g transform="scale(0.34 0.24)" fill="none" stroke-width="2">'
            '<rect width="1000" height="1000" stroke="#999"/>'
            f'<path d="{plot.paths["train"]}" stroke="#4878a8" vector-effect="non-scaling-stroke"/>'
            f'<path d="{plot.paths["validation"]}" stroke="#c04030" vector-effect="non-scaling-stroke"/></g>'
            + "".join(f'<text x="{tick.at * 3.4:.0f}" y="258">{tick.label}</text>' for tick in plot.x_ticks)
            + "".join(f'<text x="-36" y="{tick.at * 2.4 + 4:.0f}">{tick.label}</text>' for tick in plot.y_ticks)
            + "</g>"
        )
    legend = "nats a target over steps: training blue, held out red"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{60 + 420 * len(panels)}" height="330" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(panels)}'
        f'<text x="60" y="322">{legend}</text></svg>\n'
    )


def main() -> None:
    """Run what the command line names; where recipes were run as shipped, write results beside those of the others."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)}; all by default")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="a.b=c")
    parser.add_argument("--storage", type=Path, help="keep artifacts here; a temporary folder by default")
    given = parser.parse_args()
    if unknown := [family for family in given.families if family not in FAMILIES]:
        parser.error(f"no such family: {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    if not (TEXTS / "abc.zip").exists():
        sys.exit(f"{TEXTS}: the texts are not there")
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts"
        texts.mkdir()
        lines = [json.dumps({"text": text}) + "\n" for text in documents()]
        (texts / "prose.jsonl").write_text("".join(lines), encoding="utf-8")
        storage = (given.storage or Path(folder) / "store").resolve()
        measured = {family: run(family, texts, storage, given.sets) for family in given.families or FAMILIES}
    for family, found in measured.items():
        line = found[f"reference/{found['against']}"][found["metric"]]
        sys.stdout.write(
            f"{family}: {found['model'][found['metric']]:.4f} {found['metric']}, {found['against']} {line:.4f}, "
            f"{'below' if found['below'] else 'NOT below'}; {found['training_seconds']:.0f} s of training, "
            f"{found['data_wait_share']:.2%} of it waiting for data\n"
        )
    if not given.sets:
        path = RESULTS / "three_families.json"
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        every = {family: found for family in FAMILIES if (found := measured.get(family, kept.get(family)))}
        path.write_text(json.dumps(every, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "three_families.svg").write_text(draw(every), encoding="utf-8")
    if not all(found["below"] for found in measured.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
