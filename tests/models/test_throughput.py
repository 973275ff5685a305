"""The benchmark of training runs where there is no GPU too, and says what it measured."""

import json
from pathlib import Path

import pytest

from tests.benchmarks import throughput


@pytest.mark.slow
def test_a_tiny_model_is_measured_on_a_cpu(tmp_path: Path) -> None:
    throughput.main(["--sizes", "cpu-0.5m", "--steps", "2", "--warm-up", "1", "--results", str(tmp_path)])
    (result,) = tmp_path.iterdir()
    assert result.name.startswith("throughput_")
    measured = json.loads(result.read_text())["sizes"]["cpu-0.5m"]
    assert measured["tokens_per_second"] == pytest.approx(8 * 256 / measured["step_ms"] * 1000, rel=0.01)
    assert measured["memory_bytes"] > 4 * measured["parameters"]
    assert 0 <= measured["data_wait"] < 1
    assert (measured["mfu"] is None) == bool(measured["mfu_reason"])
