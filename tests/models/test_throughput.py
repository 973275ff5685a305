"""The benchmark of training runs where there is no GPU too, and says what it measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.job import Job
from tests.benchmarks import throughput


@pytest.mark.slow
def test_a_tiny_model_is_measured_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, run_group = list[int](), throughput.run_group

    def short_of_memory(argv: list[str], **options: Any) -> int:
        """Stand in for a device on which no micro-batch of four fits, and for one on which the larger size fails."""
        job = Job.model_validate_json(Path(argv[3]).read_bytes())
        if job.training.model.layers > 2:
            options["on_line"]("the device is gone")
            return 1
        tried.append(job.execution.micro_batch or 0)
        return run_group(argv, **options) if tried[-1] < 4 else throughput.OUT_OF_MEMORY

    monkeypatch.setattr(throughput, "run_group", short_of_memory)
    arguments = ["--sizes", "cpu-4m", "cpu-0.5m", "--steps", "2", "--warm-up", "1", "--results", str(tmp_path / "made")]
    assert throughput.main(arguments) == 1  # for the larger one
    assert tried == [4, 2]
    (result,) = (tmp_path / "made").iterdir()
    assert result.name.startswith("throughput_")
    (measured,) = json.loads(result.read_text())["sizes"].values()
    assert (measured["micro_batch"], measured["command"][-8:]) == (2, "cpu-0.5m")
    assert measured["tokens_per_second"] == pytest.approx(8 * 256 / measured["step_ms"] * 1000, rel=0.01)
    assert measured["memory_bytes"] > 4 * measured["parameters"]
    assert 0 <= measured["data_wait"] < 1
    assert (measured["mfu"] is None) == bool(measured["mfu_reason"])
