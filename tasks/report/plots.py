"""The geometry of the report's pictures: ticks, paths and boxes as plain numbers that the template draws.

Drawn here and not by matplotlib, because importing it costs about 1 s (measured: 0.9-1.2 s, then 25 ms a figure) of the
1.5 s that a report of a cached run may take, and because a picture made of CSS colours follows light, dark and print.
Plots use a square of 1000 × 1000 that the page stretches; their labels are HTML, so text keeps its size on a phone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.report.run import Bars, CurvePoint, FunnelRow, Histogram

SIDE = 1000.0
"""Width and height of a plot in its own units."""
MAX_POINTS = 400
"""Points drawn of a curve; more are averaged, as a screen could not show them."""


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: `at` in percent of its length from left or top."""

    at: float
    label: str


@dataclass(frozen=True)
class Plot:
    """A stretched picture: SVG path data in a square of 1000, and the marks beside it."""

    x_ticks: list[Tick]
    y_ticks: list[Tick]
    paths: dict[str, str] = field(default_factory=dict)
    lines: list[tuple[float, str]] = field(default_factory=list)
    """Vertical lines in percent from the left, with their label."""


def compact(value: float) -> str:
    """Write a number in at most four digits and a unit of thousands: 1.2k, 35M, 0.0012."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit * (0.9995 if limit > 1e3 else 1):
            return f"{value / limit:.3g}{unit}"
    if size and size < 0.001:
        return f"{value:.1e}"
    return f"{value:.3g}" if size < 100 else f"{value:.0f}"


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round values between low and high, about so many."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten between low and high (both > 0), with 2 and 5 between them when there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    every = max(1, (last - first) // 6)
    values = [factor * 10.0**power for power in range(first, last + 1, every) for factor in factors]
    return [value for value in values if low * 0.999 <= value <= high * 1.001]


def _number(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


def polyline(points: Sequence[tuple[float, float]]) -> str:
    """Return the path through points in the plot's own units."""
    return "".join(f"{'L' if index else 'M'}{_number(x)} {_number(y)}" for index, (x, y) in enumerate(points))


def thin(points: Sequence[tuple[float, float]], position: Sequence[float]) -> list[tuple[float, float]]:
    """Average the points that fall into the same column of the picture."""
    if len(points) <= MAX_POINTS:
        return list(points)
    low, high = position[0], position[-1]
    columns: dict[int, list[tuple[float, float]]] = {}
    for point, place in zip(points, position, strict=True):
        columns.setdefault(int((place - low) / ((high - low) or 1) * MAX_POINTS), []).append(point)
    return [
        (sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group))
        for _, group in sorted(columns.items())
    ]


def loss_plot(curve: Sequence[CurvePoint], *, log_x: bool) -> Plot | None:
    """Draw train loss (a line, and smoothed) and validation loss (a line with dots) over optimiser steps.

    Steps that were skipped or gone back to are marked at the bottom.

    The y axis leaves out the steep start when log_x is false and the curve is long, as the rest would look flat:
    it ends at the loss after 2 % of the steps.  A logarithmic axis has no place for step 0.  Returns None when fewer
    than two points are left.
    """
    series: dict[str, list[tuple[float, float]]] = {"train": [], "validation": []}
    for point in sorted(curve, key=lambda point: point.step):
        for name, value in (("train", point.train), ("validation", point.validation)):
            if value is not None and math.isfinite(value) and (point.step > 0 or not log_x):
                series[name].append((float(point.step), value))
    points = series["train"] + series["validation"]
    if len(points) < 2:
        return None
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = _loss_range(series, high_x, log_x=log_x)

    def x_at(x: float) -> float:
        if log_x:
            return math.log(x / low_x) / (math.log(high_x / low_x) or 1)
        return (x - low_x) / ((high_x - low_x) or 1)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return x_at(point[0]) * SIDE, (1 - (point[1] - low_y) / (high_y - low_y)) * SIDE

    paths: dict[str, str] = {}
    for name, values in {**series, "smooth": smooth(series["train"])}.items():
        if values:
            placed = [place(point) for point in thin(values, [x_at(x) for x, _ in values])]
            paths[name] = polyline(placed)
            if name == "validation":
                paths["dots"] = "".join(f"M{_number(x)} {_number(y)}h0" for x, y in placed)
    for name, steps in marked(curve).items():
        places = sorted({round(x_at(step) * SIDE) for step in steps if low_x <= step <= high_x})
        if places:
            paths[name] = "".join(f"M{x} 1000v-45" for x in places)
    x_values = log_ticks(low_x, high_x) if log_x else linear_ticks(low_x, high_x, 6)
    return Plot(
        x_ticks=[Tick(x_at(x) * 100, compact(x)) for x in x_values],
        y_ticks=[Tick((1 - (y - low_y) / (high_y - low_y)) * 100, compact(y)) for y in linear_ticks(low_y, high_y)],
        paths=paths,
    )


def smooth(values: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return (step, mean of the values around it): of a hundredth of all to both sides, of fewer near the ends.

    None are returned of fewer than a hundred values, which can be seen as they are.
    """
    if len(values) < 100:
        return []
    sums = [0.0]
    for _, value in values:
        sums.append(sums[-1] + value)
    points = []
    for index, (step, _) in enumerate(values):
        reach = min(len(values) // 100, index, len(values) - 1 - index)
        points.append((step, (sums[index + reach + 1] - sums[index - reach]) / (2 * reach + 1)))
    return points


def marked(curve: Sequence[CurvePoint]) -> dict[str, list[int]]:
    """Return the steps that were skipped, and those that the run went back to."""
    return {
        "skipped": [point.step for point in curve if point.skipped],
        "rolled-back": [point.step for point in curve if point.rolled_back_from is not None],
    }


def _loss_range(series: dict[str, list[tuple[float, float]]], last: float, *, log_x: bool) -> tuple[float, float]:
    values = [y for points in series.values() for _, y in points]
    low, high = min(values), max(values)
    if not log_x and len(series["train"]) >= 50:
        settled = [y for points in series.values() for x, y in points if x >= 0.02 * last]
        high = max(settled, default=high)
    margin = 0.06 * (high - low) or max(0.05 * abs(high), 0.01)
    return low - margin, high + margin


def histogram_plot(histogram: Histogram) -> Plot:
    """Draw two layers of bars in the same bins: all documents behind, kept ones in front."""
    top = max(max(histogram.all, default=0), 1) * 1.05
    edges = [math.log(edge) for edge in histogram.edges] if histogram.log else list(histogram.edges)
    low, span = edges[0], (edges[-1] - edges[0]) or 1.0

    def x_at(edge: float) -> float:
        return (edge - low) / span * SIDE

    paths = {}
    for name, counts in (("all", histogram.all), ("kept", histogram.kept)):
        paths[name] = "".join(
            f"M{_number(x_at(left))} 1000V{_number((1 - count / top) * SIDE)}H{_number(x_at(right))}V1000z"
            for left, right, count in zip(edges, edges[1:], counts or (), strict=False)
            if count
        )
    first, last = histogram.edges[0], histogram.edges[-1]
    x_values = log_ticks(first, last) if histogram.log else linear_ticks(first, last, 4)

    def percent(value: float) -> float:
        return x_at(math.log(value) if histogram.log else value) / 10

    return Plot(
        x_ticks=[Tick(percent(value), compact(value)) for value in x_values],
        y_ticks=[Tick((1 - y / top) * 100, compact(y)) for y in linear_ticks(0, top / 1.05, 3) if y == int(y)],
        paths=paths,
        lines=[(percent(value), compact(value)) for value in histogram.thresholds if first <= value <= last],
    )


@dataclass(frozen=True)
class Segment:
    """A piece of a bar: start and width in percent of the whole."""

    kind: str
    start: float
    width: float
    label: str


def funnel_bar(row: FunnelRow, widest: int) -> list[Segment]:
    """Return the pieces of a stage's bar: kept, dropped, quarantined, against the widest stage."""
    segments, start = [], 0.0
    for kind, count in (("kept", row.documents_out), ("dropped", row.removed), ("quarantined", row.quarantined)):
        width = 100 * count / max(widest, 1)
        if count:
            segments.append(Segment(kind, start, width, f"{count:,} {kind}"))
        start += width
    return segments


def category_bars(bars: Bars) -> list[tuple[str, int, int | None, float, float]]:
    """Return (label, all, kept, percent of all, percent of kept) a category, against the largest."""
    widest = max(max(bars.all, default=0), 1)
    kept: Sequence[int | None] = bars.kept if bars.kept is not None else [None] * len(bars.all)
    return [
        (label, count, rest, 100 * count / widest, 100 * (rest or 0) / widest)
        for label, count, rest in zip(bars.labels, bars.all, kept, strict=True)
    ]
