"""Compute the positions of an SVG chart's marks. Pure functions: templates write them, style sheets colour them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from store.training import FinishedRun

__all__ = ["Bar", "LossChart", "RecallChart", "loss_chart", "recall_chart"]

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 14, 44
MOST_RUNS = 60
"""The maximum number of runs to draw, newest first; the table below has all runs."""
_MOST_LABELS = 12
_LOSS_POINTS = 200
_SIDES = {"valid": -0.12, "test": 0.12}


@dataclass(frozen=True, slots=True)
class Bar:
    """A score with its interval, in the chart's coordinates."""

    x: float
    y: float
    low: float
    high: float
    run_id: int
    text: str
    champion: bool


@dataclass(frozen=True)
class RecallChart:
    """Recall@1 over time.

    Args:
        tuned: {split: marks of the tuned models}, oldest first.
        base: {split: (x from, x to, y) of the base models}.
        lines: (y, label) of the horizontal lines.
        labels: (x, text) below the chart.
    """

    tuned: dict[str, list[Bar]] = field(default_factory=dict)
    base: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    lines: list[tuple[float, str]] = field(default_factory=list)
    labels: list[tuple[float, str]] = field(default_factory=list)
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def recall_chart(runs: Sequence[FinishedRun], champions: Collection[int]) -> RecallChart | None:
    """Return the chart of the newest finished runs, oldest first; None if there are no runs."""
    runs = runs[-MOST_RUNS:]
    if not runs:
        return None
    step = (WIDTH - LEFT - RIGHT) / len(runs)
    chart = RecallChart(lines=[(_height(share), f"{share:.1f}") for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)])
    every = math.ceil(len(runs) / _MOST_LABELS)
    for at, run in enumerate(runs):
        middle = LEFT + step * (at + 0.5)
        if (len(runs) - 1 - at) % every == 0:
            chart.labels.append((_short(middle), str(run.run_id)))
        for split, side in _SIDES.items():
            tuned, base = run.recalls.get(("tuned", split)), run.recalls.get(("base", split))
            x = middle + side * min(step, 60)
            if tuned is not None:
                text = (
                    f"run {run.run_id}, {split}: {tuned.value:.3f} ({tuned.low:.3f} to {tuned.high:.3f}), n {tuned.n}"
                )
                bar = Bar(
                    *(_short(x), _height(tuned.value), _height(tuned.low), _height(tuned.high)),
                    run.run_id,
                    text,
                    run.run_id in champions,
                )
                chart.tuned.setdefault(split, []).append(bar)
            if base is not None:
                reach = min(step * 0.4, 26)
                chart.base.setdefault(split, []).append(
                    (_short(middle - reach), _short(middle + reach), _height(base.value))
                )
    return chart


def _height(share: float) -> float:
    return _short(TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(share, 0.0), 1.0)))


def _short(value: float) -> float:
    return round(value, 1)


@dataclass(frozen=True)
class LossChart:
    """A run's losses as one line: the points of an SVG polyline, and the labels for losses and epochs."""

    points: str
    highest: str
    first: str
    last: str
    epochs: str
    width: int = WIDTH
    height: int = 220
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = 220 - BOTTOM
    top: int = TOP


def loss_chart(steps: Sequence[tuple[float, float]]) -> LossChart | None:
    """Return the chart of the steps' (epoch, loss); None for fewer than two. Many steps are averaged in spans."""
    steps = [(epoch, loss) for epoch, loss in steps if math.isfinite(loss)]
    if len(steps) < 2:
        return None
    span = math.ceil(len(steps) / _LOSS_POINTS)
    means = [_mean(steps[start : start + span]) for start in range(0, len(steps), span)]
    highest = max(1e-9, *(loss for _, loss in means))
    epochs = max(1e-9, *(epoch for epoch, _ in means))
    chart = LossChart("", f"{highest:.2f}", f"{steps[0][1]:.4f}", f"{steps[-1][1]:.4f}", f"{epochs:.1f}")
    across, down = chart.right - chart.left, chart.bottom - chart.top
    points = " ".join(
        f"{_short(chart.left + across * epoch / epochs)},{_short(chart.top + down * (1 - max(loss, 0) / highest))}"
        for epoch, loss in means
    )
    return LossChart(points, chart.highest, chart.first, chart.last, chart.epochs)


def _mean(steps: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(epoch for epoch, _ in steps) / len(steps), sum(loss for _, loss in steps) / len(steps)
