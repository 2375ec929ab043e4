"""Plots of runs: the parts of the figure, and the files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from store.db import Database
from store.training import FinishedRun, Recall, add_steps, promote
from tests.store.builders import DAY_ONE
from tests.store.test_history import add_run
from trainer.errors import BadSetting, CantSave, RunUnusable
from trainer.publish import plot_runs
from trainer.publish.plot import draw_runs, save


def some_runs(n: int, test_every: int = 1) -> list[FinishedRun]:
    """Runs 101, 102, ... at weekly intervals. All are scored on valid, and some also on test."""
    runs = []
    for at in range(n):
        value = 0.5 + 0.4 * at / n
        found = {
            ("base", "valid"): Recall(0.5, 20 + at, 0.4, 0.6),
            ("tuned", "valid"): Recall(value, 20 + at, value - 0.1, value + 0.1),
        }
        if at % test_every == 0:
            found["base", "test"] = Recall(0.375, 12, 0.25, 0.5)
            found["tuned", "test"] = Recall(1.0, 12, 0.76, 1.0)
        runs.append(FinishedRun(101 + at, DAY_ONE + timedelta(days=7 * at), found))
    return runs


def panels(figure: Figure) -> tuple[Axes, Axes]:
    above, below = figure.axes
    return above, below


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    assert box is not None
    return [text.get_text() for text in box.get_texts()]


def bars(axes: Axes, split: str) -> ErrorbarContainer:
    (found,) = [
        drawn
        for drawn in axes.containers
        if isinstance(drawn, ErrorbarContainer) and str(drawn.get_label()).startswith(split)
    ]
    return found


def ys(line: object) -> list[float]:
    return [float(y) for y in line.get_ydata()]  # type: ignore[attr-defined]


def stars(axes: Axes) -> list[tuple[float, float]]:
    found = [drawn for drawn in axes.collections if isinstance(drawn, PathCollection)]
    return [(float(x), float(y)) for drawn in found for x, y in np.asarray(drawn.get_offsets())]


def loss_curve(n: int, start: float = 2.0) -> Sequence[tuple[float, float]]:
    return [((step + 1) / n, start - step / n) for step in range(n)]


@pytest.mark.parametrize("n", [1, 2, 12])
def test_a_few_runs_have_a_point_and_a_bar_each(n: int) -> None:
    runs = some_runs(n)
    axes, _ = panels(draw_runs(runs))
    assert axes.get_ylim() == (0, 1)
    for split in ("valid", "test"):
        line, _caps, (bar,) = bars(axes, split)
        recalls = [run.recalls["tuned", split] for run in runs]
        assert line is not None
        assert ys(line) == [recall.value for recall in recalls]
        ends = np.array(bar.get_segments())[:, :, 1]
        np.testing.assert_allclose(ends, [(recall.low, recall.high) for recall in recalls])
    assert axes.get_xlabel() == f"{n} finished run{'s' if n > 1 else ''}, oldest first"
    last = axes.get_xticklabels()[0].get_text()
    assert last == f"run {100 + n}\n{DAY_ONE + timedelta(days=7 * (n - 1)):%Y-%m-%d}", (
        "the newest run is always labelled"
    )
    assert len(axes.get_xticks()) == (n if n < 9 else n // 2)


def test_the_legend_states_n_and_the_bases_are_dashed() -> None:
    axes, _ = panels(draw_runs(some_runs(3)))
    assert legend(axes) == [
        "valid, tuned (n = 20 to 22)",
        "valid, base (n = 20 to 22)",
        "test, tuned (n = 12)",
        "test, base (n = 12)",
    ]
    dashed = {str(line.get_label()): ys(line) for line in axes.lines if line.get_linestyle() == "--"}
    assert dashed == {"valid, base (n = 20 to 22)": [0.5] * 6, "test, base (n = 12)": [0.375] * 6}


def test_a_run_without_a_base_leaves_a_gap() -> None:
    runs = some_runs(3)
    del runs[1].recalls["base", "valid"]
    axes, _ = panels(draw_runs(runs))
    (base,) = [line for line in axes.lines if str(line.get_label()).startswith("valid, base")]
    assert [np.isnan(y) for y in ys(base)] == [False, False, True, False, False]


def test_champions_are_marked() -> None:
    runs = some_runs(12)
    axes, _ = panels(draw_runs(runs, champions=[102, 111, 999]))
    assert [y for _, y in stars(axes)] == [runs[at].recalls["tuned", "valid"].value for at in (1, 10)]
    assert [text.get_text() for text in axes.texts] == ["run 102", "run 111"]
    assert legend(axes)[-1] == "current or former champion"
    assert stars(panels(draw_runs(runs))[0]) == []


def test_hundreds_of_runs_are_points_and_a_median() -> None:
    runs = some_runs(200, test_every=50)
    champions = [run.run_id for run in runs[::10]]
    axes, _ = panels(draw_runs(runs, champions=champions))
    (points,) = [line for line in axes.lines if len(ys(line)) == 200 and line.get_linestyle() == "None"]
    assert ys(points) == [run.recalls["tuned", "valid"].value for run in runs]
    (median,) = [line for line in axes.lines if str(line.get_label()).startswith("valid, tuned")]
    assert ys(median)[100] == pytest.approx(runs[100].recalls["tuned", "valid"].value, abs=0.01)
    assert len(bars(axes, "test")[2][0].get_segments()) == 4, "few runs are scored on test: each has its interval"
    assert len(legend(axes)) == 5, "no line for each run"
    assert len(axes.get_xticks()) <= 9
    assert len(axes.texts) == 6, "the newest champions are labelled"


def test_losses_of_the_newest_runs() -> None:
    losses = {101: loss_curve(4), 102: loss_curve(1000)}
    _, axes = panels(draw_runs(some_runs(2), losses))
    short, long = axes.lines
    assert list(zip(short.get_xdata(), ys(short), strict=True)) == losses[101]  # type: ignore[arg-type]
    assert len(ys(long)) == 150
    assert ys(long)[0] == pytest.approx(np.mean([loss for _, loss in losses[102][:7]]))
    assert ys(long)[-1] == pytest.approx(np.mean([loss for _, loss in losses[102][-6:]]))
    assert legend(axes) == ["run 101", "run 102"]
    assert (axes.get_xlabel(), axes.get_ylim()[0]) == ("epoch", 0)


@pytest.mark.slow
def test_missing_losses_are_stated() -> None:
    _, axes = panels(draw_runs(some_runs(1)))
    assert [text.get_text() for text in axes.texts] == ["no losses are recorded"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG\r\n"), ("a.SVG", b"<?xml version"), ("a.pdf", b"%PDF-")]
)
def test_the_suffix_determines_the_format(tmp_path: Path, name: str, start: bytes) -> None:
    save(draw_runs(some_runs(2)), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 200])
def test_a_png_is_not_blank(tmp_path: Path, n: int) -> None:
    save(draw_runs(some_runs(n), {100 + n: loss_curve(9)}, [100 + n]), tmp_path / "a.png")
    picture = Image.open(io.BytesIO((tmp_path / "a.png").read_bytes())).convert("RGB")
    assert picture.size == (1320, 900)
    colours = picture.getcolors(1 << 20)
    assert colours is not None
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (0xF0, 0xE4, 0x42)} <= {colour for _, colour in colours}


@pytest.mark.parametrize("name", ["a", "a.jpg", "a.png.txt", ".png"])
def test_another_suffix_is_refused(sqlite_database: Database, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSetting, match=r"\.png, \.svg, \.pdf"):
        plot_runs(sqlite_database, tmp_path / name)


def test_a_store_without_finished_runs_is_an_error(sqlite_database: Database, tmp_path: Path) -> None:
    with sqlite_database.write() as session:
        add_run(session, 1, "failed", tuned_valid=0.5)
    with pytest.raises(RunUnusable, match="no finished runs"):
        plot_runs(sqlite_database, tmp_path / "a.png")
    assert list(tmp_path.glob("*.png")) == []


def test_an_unwritable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CantSave, match=r"none/a.png can't be written \(No such file or directory\)"):
        save(draw_runs(some_runs(1)), tmp_path / "none" / "a.png")


@pytest.mark.slow
def test_the_runs_of_a_store_are_drawn(database: Database, tmp_path: Path) -> None:
    with database.write() as session:
        runs = [add_run(session, day, base_valid=0.5, tuned_valid=0.75, tuned_test=0.5) for day in range(3)]
        add_steps(session, runs[0], [{"step": 1, "epoch": 1.0, "loss": 2.0, "learning_rate": 1e-4}])
        promote(session, runs[1], "the first")
    assert plot_runs(database, tmp_path / "a.svg") == 3
    assert plot_runs(database, tmp_path / "a.svg") == 3, "replaces the file"


@pytest.mark.processes
def test_the_users_own_settings_and_fonts_do_not_matter(tmp_path: Path) -> None:
    """A machine without matplotlib's caches and with an odd matplotlibrc: no output, and the usual size."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nsavefig.dpi: 20\n")
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.trainer.test_plotting import some_runs\n"
        "from trainer.publish.plot import draw_runs, save\n"
        "save(draw_runs(some_runs(2)), Path('a.png'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    here = Path(__file__).parents[2]
    own = {"PYTHONPATH": str(here), "MPLCONFIGDIR": str(tmp_path / "config"), "MPLBACKEND": "qtagg"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **own},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1320, 900)
