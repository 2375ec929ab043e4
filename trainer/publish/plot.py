"""Plots of finished runs: recall@1 over time with its confidence interval, and the newest runs' losses.

Uses matplotlib's object interface: no display, no global state, and the user's matplotlib settings are ignored.
"""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store.db import Database
from store.training import FinishedRun, Recall, champion_ids, finished_runs, losses_of
from store.wording import counted
from trainer.errors import BadSetting, CantSave, RunUnusable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.container import Container
    from matplotlib.figure import Figure

__all__ = ["draw_runs", "plot_runs", "save"]

SUFFIXES = (".png", ".svg", ".pdf")
Floats = NDArray[np.float64]
Points = Sequence[tuple[int, Recall]]
Losses = Mapping[int, Sequence[tuple[float, float]]]

# Okabe and Ito's palette, distinguishable with any colour vision; marker and side differ too.
# https://jfly.uni-koeln.de/color/
_LOOKS = {"valid": ("#0072B2", "o", -0.12), "test": ("#D55E00", "s", 0.12)}
_GOLD = "#F0E442"
_GREY = "#555555"

_BESIDE: dict[str, Any] = {
    "loc": "upper left",
    "bbox_to_anchor": (1.01, 1),
    "frameon": False,
    "title_fontsize": "small",
    "alignment": "left",
}

_FEW_RUNS = 40
"""The maximum number of runs that are drawn with an interval each; above it, points and a running median are drawn."""
_NAMED_RUNS = 9
"""The maximum number of runs with a tick label."""
_NAMED_CHAMPIONS = 6
_LOSS_CURVES = 5
_LOSS_POINTS = 150


def plot_runs(database: Database, path: Path) -> int:
    """Draw all finished runs of the store to `path`; return their number.

    Args:
        database: the store.
        path: the file to write, replaced if it exists; its suffix, one of `SUFFIXES`, chooses the format.

    Raises:
        BadSetting: the suffix is not one of `SUFFIXES`.
        RunUnusable: no run has finished yet.
        CantSave: the file can't be written.
    """
    _check_suffix(path)
    with database.read() as session:
        runs = finished_runs(session)
        losses = losses_of(session, [run.run_id for run in runs[-_LOSS_CURVES:]])
        champions = champion_ids(session)
    if not runs:
        raise RunUnusable("there are no finished runs to plot; run 'thumbtune train' first")
    save(draw_runs(runs, losses, champions), path)
    return len(runs)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's suffix names.

    Raises:
        BadSetting: the suffix is not one of `SUFFIXES`.
        CantSave: the file can't be written.
    """
    _check_suffix(path)
    drawn = io.BytesIO()
    with _default_matplotlib():
        figure.savefig(drawn, format=path.suffix.lower().removeprefix("."))
    try:
        path.write_bytes(drawn.getvalue())
    except OSError as error:
        raise CantSave(f"{path} can't be written ({error.strerror}); use another file") from error


def _check_suffix(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise BadSetting(f"{str(path)!r} is not a supported plot file; use one of the suffixes {', '.join(SUFFIXES)}")


def draw_runs(runs: Sequence[FinishedRun], losses: Losses | None = None, champions: Collection[int] = ()) -> Figure:
    """Draw runs as a figure.

    Args:
        runs: at least one, oldest first.
        losses: {run id: [(epoch, loss)]} of the runs whose losses are plotted, oldest first; only a few runs.
        champions: ids of the runs that are or were champion.

    Returns:
        A figure of two panels: recall@1 of each run, and losses.
    """
    with _default_matplotlib():
        from matplotlib.figure import Figure  # noqa: PLC0415 (its first import reads fonts and may log)

        figure = Figure(figsize=(11, 7.5), dpi=120, layout="constrained")
        layout = figure.get_layout_engine()
        assert layout is not None
        layout.set(w_pad=0.15, h_pad=0.15)  # type: ignore[call-arg]  # inches; of the constrained layout's engine
        above, below = figure.subplots(2, 1, height_ratios=(5, 3))
        _draw_recalls(above, runs, set(champions))
        _draw_losses(below, losses or {})
        for axes in (above, below):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
            axes.set_axisbelow(True)
    return figure


@contextmanager
def _default_matplotlib() -> Iterator[None]:
    """Use matplotlib's default settings instead of the user's, and silence messages about its font cache."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import matplotlib as mpl  # noqa: PLC0415

        with mpl.rc_context():
            mpl.rcdefaults()
            yield
    finally:
        logger.setLevel(level)


def _draw_recalls(axes: Axes, runs: Sequence[FinishedRun], champions: set[int]) -> None:
    drawn: list[Artist | Container] = []
    ways = set()
    for split, (colour, marker, side) in _LOOKS.items():
        tuned = [(x, run.recalls["tuned", split]) for x, run in enumerate(runs) if ("tuned", split) in run.recalls]
        base = [(x, run.recalls["base", split]) for x, run in enumerate(runs) if ("base", split) in run.recalls]
        if tuned:
            few = len(tuned) <= _FEW_RUNS
            draw = _draw_each if few else _draw_many
            shift = side if len(runs) <= _FEW_RUNS else 0.0
            drawn.append(draw(axes, tuned, _with_n(f"{split}, tuned", tuned), (colour, marker), shift))
            ways.add("bars: 95 % interval" if few else "points: runs; line: running median;\nband: its 95 % interval")
        if base:
            drawn.append(_draw_base(axes, base, _with_n(f"{split}, base", base), colour))
    drawn += _mark_champions(axes, runs, champions)
    axes.set_ylim(0, 1)
    margin = max(0.6, 2 - len(runs) / 2)
    axes.set_xlim(-margin, len(runs) - 1 + margin)
    _name_runs(axes, runs)
    axes.set_xlabel(f"{counted(len(runs), 'finished run')}, oldest first")
    axes.set_ylabel("recall@1 (share of thumbnails)")
    axes.set_title("Recall@1: how often a thumbnail's own title ranks first", loc="left", fontweight="bold")
    legend = axes.legend(handles=drawn, title="\n".join(sorted(ways)), **_BESIDE)
    legend.get_title().set_color(_GREY)


def _draw_each(axes: Axes, points: Points, name: str, look: tuple[str, str], side: float) -> Container:
    """Draw each run with its own interval."""
    value, low, high = _columns(points)
    return axes.errorbar(
        np.array([x for x, _ in points]) + side,
        value,
        # Rounding may put a bound slightly on the wrong side of its value.
        yerr=np.maximum(0, (value - low, high - value)),
        label=name,
        color=look[0],
        marker=look[1],
        markersize=6,
        linewidth=1,
        elinewidth=1.5,
        capsize=3,
        clip_on=False,
        zorder=4,
    )


def _draw_many(axes: Axes, points: Points, name: str, look: tuple[str, str], side: float) -> Artist:
    """Draw each run as a faint point, and the running median as a line with a band."""
    xs = np.array([x for x, _ in points]) + side
    value, low, high = _columns(points)
    axes.plot(xs, value, look[1], color=look[0], alpha=0.35, markersize=3.5, markeredgewidth=0, clip_on=False, zorder=3)
    width = max(5, len(points) // 15)
    axes.fill_between(
        xs, _running_median(low, width), _running_median(high, width), color=look[0], alpha=0.13, linewidth=0
    )
    return axes.plot(xs, _running_median(value, width), color=look[0], linewidth=2, label=name, zorder=4)[0]


def _columns(points: Points) -> tuple[Floats, Floats, Floats]:
    found = np.array([(recall.value, recall.low, recall.high) for _, recall in points])
    return found[:, 0], found[:, 1], found[:, 2]


def _running_median(values: Floats, width: int) -> Floats:
    """Return the median of the `width` values around each value; fewer values at the ends."""
    half = width // 2
    return np.array([np.median(values[max(0, at - half) : at + half + 1]) for at in range(len(values))])


def _draw_base(axes: Axes, points: Points, name: str, colour: str) -> Artist:
    """Draw a dashed level one run wide, so that a single run is visible. A run without a value leaves a gap."""
    xs: list[float] = []
    ys: list[float] = []
    for x, recall in points:
        if xs and xs[-1] != x - 0.5:
            xs.append(x - 0.5)
            ys.append(np.nan)
        xs += [x - 0.5, x + 0.5]
        ys += [recall.value] * 2
    return axes.plot(xs, ys, "--", color=colour, linewidth=1.3, alpha=0.8, label=name, zorder=2)[0]


def _with_n(name: str, points: Points) -> str:
    sizes = [recall.n for _, recall in points]
    low, high = min(sizes), max(sizes)
    return f"{name} (n = {low})" if low == high else f"{name} (n = {low} to {high})"


def _mark_champions(axes: Axes, runs: Sequence[FinishedRun], champions: set[int]) -> list[Artist]:
    """Mark each champion with a star; label the newest ones where the ticks don't name every run."""
    few = len(runs) <= _FEW_RUNS
    marked = []
    for x, run in enumerate(runs):
        split = next((split for split in _LOOKS if ("tuned", split) in run.recalls), None)
        if run.run_id in champions and split:
            marked.append((x + (_LOOKS[split][2] if few else 0.0), run.recalls["tuned", split].value, run.run_id))
    if not marked:
        return []
    xs, ys, _ = zip(*marked, strict=True)
    for at, y, run_id in marked[-_NAMED_CHAMPIONS:] if len(runs) > _NAMED_RUNS else ():
        axes.annotate(
            f"run {run_id}",
            (at, y),
            (0, 10),
            textcoords="offset points",
            ha="right" if at > 0.95 * len(runs) else "center",
            fontsize="small",
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
            zorder=5,
        )
    looks: dict[str, Any] = {"marker": "*", "color": _GOLD, "edgecolors": "black", "linewidths": 0.9}
    return [axes.scatter(xs, ys, s=230, clip_on=False, zorder=6, label="current or former champion", **looks)]


def _name_runs(axes: Axes, runs: Sequence[FinishedRun]) -> None:
    # Count back from the newest run, which is always labelled.
    ticks = range(len(runs) - 1, -1, -math.ceil(len(runs) / _NAMED_RUNS))
    axes.set_xticks(ticks, [f"run {runs[x].run_id}\n{runs[x].started_at:%Y-%m-%d}" for x in ticks], fontsize="small")


def _draw_losses(axes: Axes, losses: Losses) -> None:
    from matplotlib import colormaps  # noqa: PLC0415

    axes.set_title("Training loss of the newest runs", loc="left", fontweight="bold")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss (nats, mean of a batch)")
    if not losses:
        axes.text(0.5, 0.5, "no losses are recorded", transform=axes.transAxes, ha="center", color=_GREY)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    # From pale (oldest) to dark (newest); viridis's lightness changes evenly.
    shades = colormaps["viridis"](np.linspace(0.85, 0.0, len(losses)) if len(losses) > 1 else [0.0])
    thinned = False
    for shade, (run_id, losses_of_run) in zip(shades, losses.items(), strict=True):
        epochs, means = _thinned(losses_of_run)
        thinned |= len(means) < len(losses_of_run)
        marker = "o" if len(means) <= 20 else None
        axes.plot(epochs, means, color=shade, marker=marker, markersize=3.5, linewidth=1.5, label=f"run {run_id}")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    legend = axes.legend(title=f"means over {_LOSS_POINTS} spans" if thinned else None, **_BESIDE)
    legend.get_title().set_color(_GREY)


def _thinned(losses_of_run: Sequence[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Return epochs and losses, averaged over equal numbers of steps where there are too many to distinguish."""
    values = np.array(losses_of_run, dtype=float)
    if len(values) > _LOSS_POINTS:
        values = np.array([part.mean(axis=0) for part in np.array_split(values, _LOSS_POINTS)])
    return values[:, 0], values[:, 1]
