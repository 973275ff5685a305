"""How the training went, for the report: read from the model's files, smoothed, and drawn."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from infra.manifests import File
from tasks.report.plots import SIDE, Plot, Tick, compact, linear_ticks, polyline, thin
from tasks.report.run import CurvePoint, TrainingSample

_SAMPLED_STEPS = 5

SERIES: tuple[tuple[str, Callable[[CurvePoint], float | None]], ...] = (
    ("Learning rate", lambda point: point.learning_rate),
    ("Gradient norm", lambda point: point.gradient_norm),
    ("Tokens a second", lambda point: point.tokens_per_second),
)
"""What is drawn below the loss, each in a picture of its own."""


def read_curve(curve: File, throughput: File | None) -> tuple[CurvePoint, ...]:
    """Return the points of curve.jsonl, with the rates of throughput.jsonl: those of the run's last life."""
    rates = {row["step"]: row["tokens_per_second"] for row in _rows(throughput)} if throughput is not None else {}
    return tuple(
        CurvePoint(
            step=row["step"],
            tokens=row.get("tokens"),
            train=row.get("loss"),
            validation=row.get("validation_loss"),
            learning_rate=row.get("learning_rate"),
            gradient_norm=row.get("gradient_norm"),
            tokens_per_second=rates.get(row["step"]),
            skipped=bool(row.get("skipped")),
            rolled_back_from=row.get("rolled_back_from"),
        )
        for row in _rows(curve)
    )


def read_samples(file: File) -> tuple[TrainingSample, ...]:
    """Return what was written at the first step of samples.jsonl, at the last, and at a few between."""
    rows = [TrainingSample.model_validate(row) for row in _rows(file)]
    steps = sorted({row.step for row in rows})
    count = min(len(steps), _SAMPLED_STEPS)
    shown = {steps[round(index * (len(steps) - 1) / max(count - 1, 1))] for index in range(count)}
    return tuple(row for row in rows if row.step in shown)


def how_trained(
    params: Mapping[str, Any], counted: Mapping[str, Any], throughput: File | None
) -> list[tuple[str, str]]:
    """Return (what, how) of a training, from the parameters of its step and what the step has counted and measured."""
    model, optimizer, schedule = (params[name] for name in ("model", "optimizer", "schedule"))
    both = f"{model['layers']}+{model['decoder_layers'] or model['layers']}"
    layers = both if model["family"] == "encoder_decoder" else model["layers"]
    wait = counted["data_wait_share"]
    mfu, ranks = counted.get("mfu"), counted["ranks"]
    rows = [
        (
            "Network",
            f"{model['family']}, {layers} layers, {model['width']:,} wide, {model['heads']} heads, "
            f"{model['sequence_length']:,} tokens of context",
        ),
        ("Batch", f"{params['batch']:,} sequences, in micro-batches of {counted['micro_batch']:,} a rank"),
        (
            "Optimiser",
            f"{optimizer['kind']}, learning rate {optimizer['learning_rate']:g}, {schedule['kind']} after "
            f"{schedule['warmup_steps']:,} steps of warm-up",
        ),
        ("Precision", f"{counted['precision']}: {counted['precision_reason']}"),
        ("Device", f"{ranks} {'rank' if ranks == 1 else 'ranks'} on {counted['device']}"),
        ("Model FLOP utilisation", f"{mfu:.1%}" if mfu is not None else f"unknown: {counted['mfu_reason']}"),
        ("Memory of the first rank", _memory(_rows(throughput) if throughput is not None else [])),
        (
            "Time in steps",
            f"{counted['training_seconds']:,.1f} s since it was last started, {wait:.2%} of it for data"
            if wait is not None
            else "one step at most since it was last started",
        ),
        (
            "Skipped",
            f"{counted['bad_steps']:,} steps not finite, {counted['spikes']:,} spikes; "
            f"{counted['rollbacks']:,} times gone back, {counted['skipped_batches']:,} batches passed over",
        ),
    ]
    return rows


def _memory(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the most memory that was taken, of the host and of the GPU where there is one."""
    most = {"": 0, " of its GPU": 0}
    for row in rows:
        for where, name in zip(most, ("memory_bytes", "gpu_reserved_bytes"), strict=True):
            most[where] = max(most[where], row.get(name, 0))
    return ", ".join(f"{size / 2**30:.2f} GiB{where} at most" for where, size in most.items() if size) or "–"


def _rows(file: File) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def series_plots(curve: Sequence[CurvePoint]) -> list[tuple[str, Plot]]:
    """Return (title, picture) of each series that has at least two points, over optimiser steps."""
    found = []
    for title, read in SERIES:
        values = [(float(point.step), value) for point in curve if (value := read(point)) is not None]
        values = [(step, value) for step, value in values if math.isfinite(value)]
        if len(values) > 1 and values[0][0] < values[-1][0]:
            found.append((title, _series_plot(sorted(values))))
    return found


def _series_plot(values: Sequence[tuple[float, float]]) -> Plot:
    first, last = values[0][0], values[-1][0]
    top = max(value for _, value in values) * 1.06 or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return (point[0] - first) / (last - first) * SIDE, (1 - point[1] / top) * SIDE

    drawn = thin(values, [(step - first) / (last - first) for step, _ in values])
    return Plot(
        x_ticks=[Tick((x - first) / (last - first) * 100, compact(x)) for x in linear_ticks(first, last, 4)],
        y_ticks=[Tick((1 - y / top) * 100, compact(y)) for y in linear_ticks(0, top, 3)],
        paths={"line": polyline([place(point) for point in drawn])},
    )


def events(curve: Iterable[CurvePoint]) -> list[str]:
    """Return a sentence for each step that was skipped and each time the run went back, in order."""
    found = []
    for point in curve:
        if point.rolled_back_from is not None:
            found.append(f"step {point.step:,}: gone back to before it from step {point.rolled_back_from:,}")
        if point.skipped:
            found.append(f"step {point.step:,}: skipped")
    return found
