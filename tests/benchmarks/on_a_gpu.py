"""Everything that only a GPU runs, tried by one command: each part in a process of its own, with its own result file.

    python -m tests.benchmarks.on_a_gpu                              all parts, within nine minutes
    python -m tests.benchmarks.on_a_gpu --parts attention stages     some of them
    python -m tests.benchmarks.on_a_gpu --device cpu                 the same on a CPU, as far as it goes there

    environment   versions, the card, what DeepSpeed and the trainer choose on it
    attention     FlexAttention beside a dense mask: losses and gradients, in blocks that are compiled and that are not
    compiled      compiled blocks and losses beside plain ones, for two lengths, checkpointing and chunks of the loss
    stages        ZeRO 0 to 3, offload and each optimiser beside a plain loop; resumed, and resumed from a universal one
    fp16          the loss falls, whatever the loss scale does, and a resumed run goes on as if nothing was
    training      a whole run of the trainer: validation, samples, average, checkpoints, artifact
    throughput    python -m tests.benchmarks.throughput --quick

A part that fails, hangs or kills its process is a finding, and the next one goes on.  Writes {part}.json to the
folder --results after each part, throughput_{device}.json beside them, and ends with status 1 where anything failed.
What the parts do is in tests/benchmarks/gpu_parts.py.
"""

import argparse
import json
import logging
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from infra.errors import MillraceError
from infra.launch import run_group

log = logging.getLogger("on_a_gpu")

RESULTS: Final = Path(__file__).parent / "results" / "on_a_gpu"
SECONDS: Final = {
    "environment": 60, "attention": 120, "compiled": 120, "stages": 150, "fp16": 60, "training": 90, "throughput": 300,
}  # fmt: skip
"""The parts, and the most seconds that each may take; on a CPU five times as many."""


def run(part: str, device: str, folder: Path, *, limit: float) -> dict[str, Any]:
    """Run one part and return what it found; `ok` says whether all is as it should be."""
    if part == "throughput":
        return _throughput(device, folder, limit=limit)
    said, lines = folder / f"{part}.said", deque[str](maxlen=40)
    said.unlink(missing_ok=True)
    began = time.monotonic()
    try:
        status = run_group(
            ["-m", "tests.benchmarks.gpu_parts", part, device, str(said)],
            env={"OMP_NUM_THREADS": "4"} if device == "cuda" else {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            on_line=lines.append,
            timeout=limit,
        )
        ended = f"status {status}"
    except MillraceError as exc:
        ended = str(exc)
    # Written after each check, so that what was found before an end is not lost.
    checks = json.loads(said.read_text()) if said.exists() else {}
    said.unlink(missing_ok=True)
    ok = ended == "status 0" and all(check["ok"] for check in checks.values())
    tail = {} if ok else {"output": list(lines)}
    return {"ok": ok, "ended": ended, "seconds": round(time.monotonic() - began, 1), "checks": checks, **tail}


def _throughput(device: str, folder: Path, *, limit: float) -> dict[str, Any]:
    from tests.benchmarks import throughput

    began, failed = time.monotonic(), []
    sizes = ["cpu-0.5m"] if device == "cpu" else list(throughput.GPU)
    few = ["--steps", "1", "--warm-up", "1"] if device == "cpu" else []
    for n, size in enumerate(sizes):  # what small ones leave of the time, the largest may take
        share = (limit - (time.monotonic() - began)) / (len(sizes) - n)
        asked = ["--quick", "--sizes", size, "--results", str(folder), "--limit-seconds", f"{max(share, 1):.0f}"]
        failed += [size] * (throughput.main([*asked, *few]) != 0)
    ended = f"failed: {', '.join(failed)}" if failed else "status 0"
    return {"ok": not failed, "ended": ended, "seconds": round(time.monotonic() - began, 1)}


def main(argv: list[str] | None = None) -> int:
    """Run the parts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(SECONDS), default=list(SECONDS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=9.0, help="most minutes for all parts together")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args.results.mkdir(parents=True, exist_ok=True)
    end, failed = time.monotonic() + 60 * args.minutes, []
    for part in args.parts:
        limit = min(SECONDS[part] * (1 if args.device == "cuda" else 5), end - time.monotonic())
        try:
            found = (
                run(part, args.device, args.results, limit=limit) if limit > 0 else {"ok": False, "ended": "no time"}
            )
        except Exception as exc:  # the next part may be well
            found = {"ok": False, "ended": f"{type(exc).__name__}: {exc}"}
        (args.results / f"{part}.json").write_text(json.dumps(found, indent=1) + "\n")
        wrong = [name for name, check in found.get("checks", {}).items() if not check["ok"]]
        log.info(
            "%-12s %s (%s)%s", part, "ok" if found["ok"] else "FAILED", found["ended"], f": {wrong}" if wrong else ""
        )
        failed += [part] * (not found["ok"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
