"""The curve of a run: what happened at which step, nothing that differs from run to run."""

import json
from pathlib import Path
from typing import Any

SAMPLES = "samples"
"""Key of what the model wrote at a step, a list of {prompt, text}."""


class Curve:
    """The rows of curve.jsonl, and of samples.jsonl beside it."""

    def __init__(self, rows: list[dict[str, Any]] | None = None) -> None:
        self.rows = rows or []

    @classmethod
    def load(cls, path: Path) -> "Curve":
        """Read the rows that `save` wrote."""
        return cls([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])

    def add(self, **row: Any) -> None:
        """Append a row."""
        self.rows.append(row)

    def save(self, path: Path) -> None:
        """Write all rows, one JSON object a line, with what the model wrote: what a checkpoint keeps."""
        _write(path, self.rows)

    def publish(self, folder: Path) -> None:
        """Write curve.jsonl, and samples.jsonl where the model wrote any."""
        _write(folder / "curve.jsonl", [{k: v for k, v in row.items() if k != SAMPLES} for row in self.rows])
        samples = [{"step": row["step"], **sample} for row in self.rows for sample in row.get(SAMPLES, [])]
        if samples:
            _write(folder / "samples.jsonl", samples)


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
