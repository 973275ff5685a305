"""The benchmark of training runs where there is no GPU too, and says what it measured."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from models.job import Job
from tests.benchmarks import on_a_gpu, throughput


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


@pytest.mark.slow
def test_what_only_a_gpu_runs_is_tried_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "main", Mock(side_effect=RuntimeError("the device is gone")))
    arguments = ["--device", "cpu", "--parts", "throughput", "attention", "--results", str(tmp_path)]
    assert on_a_gpu.main(arguments) == 1
    found = {path.stem: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert found["throughput"] == {"ok": False, "ended": "RuntimeError: the device is gone"}
    checks = found["attention"].pop("checks")
    assert found["attention"]["ok"], found
    assert [len(checks), sum(check["flex"] < 1e-3 for check in checks.values())] == [5, 5]
    assert max(check["flex"] for check in checks.values()) > 0  # which is another way of computing it


def test_a_larger_size_may_take_what_smaller_ones_leave_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = dict[str, float]()

    def measured(argv: list[str]) -> int:
        size, limit = (argv[argv.index(option) + 1] for option in ("--sizes", "--limit-seconds"))
        tried[size] = float(limit)
        return int(size == "124m")  # it fails, and the others are measured all the same

    monkeypatch.setattr(throughput, "main", measured)
    assert on_a_gpu.main(["--parts", "throughput", "--results", str(tmp_path)]) == 1
    assert tried == {"124m": 100, "350m": 150, "1.3b": 300}
    assert json.loads((tmp_path / "throughput.json").read_text())["ended"] == "failed: 124m"
