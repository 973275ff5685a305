"""What a run says about itself: the deterministic curve, and beside it times, throughput and TensorBoard scalars."""

import json
import time
from pathlib import Path
from typing import Any

from models.config import ModelConfig

# Dense bf16 peak in FLOP/s, from NVIDIA's data sheets (A100 2021, H100 2023, H200 2024, L40S 2023).
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200 NVL": 835e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
}


def peak_flops(device: str) -> float | None:
    """Return the peak of the card whose name begins with the longest known name; None for an unknown one."""
    known = [name for name in PEAK_FLOPS if device.startswith(name)]
    return PEAK_FLOPS[max(known, key=len)] if known else None


def flops_per_token(cfg: ModelConfig, *, parameters: int, vocab_size: int) -> float:
    """Return the FLOPs of training on one token: 6 a weight, and attention (PaLM, arXiv 2204.02311, appendix B)."""
    embedding = 0 if cfg.tied_embeddings else vocab_size * cfg.width
    return 6 * (parameters - embedding) + 12 * cfg.layers * cfg.width * cfg.sequence_length


class Curve:
    """The rows of curve.jsonl: what happened at which step, nothing that differs from run to run."""

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = rows or []

    @classmethod
    def load(cls, path: Path) -> "Curve":
        """Read the rows that `save` wrote."""
        return cls([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])

    def add(self, **row: float | int | None) -> None:
        """Append a row."""
        self.rows.append(row)

    def save(self, path: Path) -> None:
        """Write all rows, one JSON object a line."""
        path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in self.rows), encoding="utf-8")


class Meter:
    """Tokens a second over the steps of this process, and how much of the time went into waiting for data."""

    def __init__(self) -> None:
        self.seconds = self.data_seconds = 0.0
        self.tokens = 0
        self._first = True

    def step(self, *, seconds: float, data_seconds: float, tokens: int) -> None:
        """Count one step; the first one warms up and is left out."""
        if self._first:
            self._first = False
            return
        self.seconds += seconds
        self.data_seconds += data_seconds
        self.tokens += tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Training throughput without validation and checkpoints; None before the second step."""
        return self.tokens / self.seconds if self.seconds else None


class Logs:
    """TensorBoard scalars and throughput.jsonl below a folder; not part of what the model is."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(folder))
        self._throughput = (folder / "throughput.jsonl").open("a", encoding="utf-8")

    def row(self, row: dict[str, Any]) -> None:
        """Write a row of the curve as scalars."""
        for name, value in row.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, row["step"])

    def throughput(self, step: int, meter: Meter) -> None:
        """Write how fast training is."""
        rate = meter.tokens_per_second
        if rate is None:
            return
        line = {"step": step, "time": round(time.time(), 3), "tokens_per_second": round(rate, 1)}
        self._throughput.write(json.dumps({**line, "data_share": round(meter.data_seconds / meter.seconds, 5)}) + "\n")
        self._writer.add_scalar("tokens_per_second", rate, step)

    def close(self) -> None:
        """Write out what is buffered."""
        self._throughput.close()
        self._writer.close()
