"""What it costs to train from shards on object storage that do not fit into the cache.

    python -m tests.benchmarks.remote_shards [--steps 40] [--windows 32] [--step-ms 250 500 1000]

64 MB of tokens on a local S3 server (moto, one Python process: a real one takes as long to answer, but answers many at
once).  Each step reads so many windows of 2,049 tokens that lie anywhere, as byte ranges: without preparing them; and,
prepared ahead as training does, beside a step of a given length (asleep, as a host is whose device works), what share
of the time is spent waiting for data.  Then how fast shards come whole, hashed and checked.

Writes tests/benchmarks/results/remote_shards.json.
"""

import argparse
import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from infra.storage import Storage
from models.cache import StoredFile
from models.data import TokenStream, TrainingData
from models.order import TrainingOrder
from models.prefetch import Prefetcher
from models.shards import Shards
from tests.conftest import MOTO

log = logging.getLogger("remote_shards")

RESULT: Final = Path(__file__).parent / "results" / "remote_shards.json"

SHARDS: Final = 4
TOKENS: Final = 8_000_000
LENGTH: Final = 2048


def upload(folder: Path) -> list[StoredFile]:
    """Put shards of random tokens into a new bucket."""
    import s3fs

    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"], "key": "testing", "secret": "testing"}
    s3fs.S3FileSystem(**options, skip_instance_cache=True).mkdir("benchmark")
    storage, files = Storage("s3://benchmark/tokens"), []
    for number in range(SHARDS):
        data = np.random.default_rng(number).integers(0, 50_000, TOKENS).astype("<u2").tobytes()
        path = folder / f"{number}.bin"
        path.write_bytes(data)
        storage.upload(path, path.name)
        path.unlink()
        digest = hashlib.sha256(data).hexdigest()
        files.append(StoredFile(root=storage.url, location=path.name, bytes=len(data), sha256=digest))
    return files


def waiting(data: TrainingData, *, steps: int, seconds: float) -> float:
    """Return the share of the time that a loop with steps of this length waits for its batches."""
    prefetcher = Prefetcher(
        lambda step: list(data.step(step)), steps=steps, device=torch.device("cpu"), depth=8, threads=4
    )
    waited = 0.0
    for step in range(steps):
        began = time.perf_counter()
        prefetcher.take(step)
        waited += (time.perf_counter() - began) if step >= steps // 4 else 0  # the first steps fill the queue
        time.sleep(seconds)
    prefetcher.close()
    return waited / (waited + (steps - steps // 4) * seconds)


def measure(folder: Path, *, steps: int, windows: int, lengths: list[int]) -> dict[str, Any]:
    """Measure against the server that the AWS variables name."""
    files = upload(folder)
    stream = TokenStream(files, "uint16", remote=Shards(folder / "none", 0))
    order = TrainingOrder(tokens=len(stream), sequence_length=LENGTH, batch=windows, seed=0)
    data = TrainingData(stream, order, rank=0, ranks=1, micro_batch=windows)
    list(data.step(0))
    began = time.perf_counter()
    for step in range(1, 11):
        list(data.step(step))
    alone = (time.perf_counter() - began) / 10
    found: dict[str, Any] = {
        "windows_a_step": windows,
        "bytes_a_step": windows * 2 * (LENGTH + 1),
        "unprepared_ms_a_step": round(1000 * alone, 1),
        "wait_beside_steps_of": {ms: round(waiting(data, steps=steps, seconds=ms / 1000), 4) for ms in lengths},
    }
    whole = Shards(folder / "whole", 1 << 30)
    began = time.perf_counter()
    for file in files:
        whole.cache.wait_for(file).close()
    found["whole_megabytes_a_second"] = round(SHARDS * TOKENS * 2 / 1e6 / (time.perf_counter() - began), 1)
    return found


def main() -> None:
    """Start a server, measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--step-ms", type=int, nargs="+", default=[250, 500, 1000])
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    server = subprocess.Popen(
        [sys.executable, "-c", MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        os.environ |= {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
        os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
        with tempfile.TemporaryDirectory() as folder:
            found = measure(Path(folder), steps=args.steps, windows=args.windows, lengths=args.step_ms)
    finally:
        server.kill()
        server.wait()
    log.info("%s", found)
    RESULT.write_text(json.dumps({"command": "python -m tests.benchmarks.remote_shards", **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
