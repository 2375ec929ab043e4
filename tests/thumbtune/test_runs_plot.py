"""`thumbtune runs` and `runs plot` as users and scripts run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from store.db import open_database
from store.training import start_run
from tests.store.test_history import add_run
from thumbtune.cli import main


@pytest.fixture
def store(migrated_sqlite_url: str) -> str:
    """The URL of a store with two finished runs."""
    database = open_database(migrated_sqlite_url)
    with database.write() as session:
        for day in range(2):
            add_run(session, day, base_valid=0.5, tuned_valid=0.75, base_test=0.5, tuned_test=0.5)
    database.close()
    return migrated_sqlite_url


def plot(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: str, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as exited:
        main(["--db", store, "runs", "plot", *arguments])
    told = capfd.readouterr()
    return int(exited.value.code or 0), told.out, told.err


@pytest.mark.slow
def test_plot_writes_an_image(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot(capfd, monkeypatch, store) == (0, "2 runs: thumbtune-runs.png\n", "")
    assert (tmp_path / "thumbtune-runs.png").read_bytes().startswith(b"\x89PNG")
    code, out, err = plot(capfd, monkeypatch, store, "--out", "a.svg", "--json")
    assert (code, json.loads(out), err) == (0, {"plot": "a.svg", "runs": 2}, "2 runs: a.svg\n")
    assert (tmp_path / "a.svg").is_file()


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("a.jpg", 2, "error: 'a.jpg' is not a supported plot file; use one of the suffixes .png, .svg, .pdf\n"),
        ("no/a.png", 1, "error: no/a.png can't be written (No such file or directory); use another file\n"),
    ],
)
def test_errors_are_one_line(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    store: str,
    tmp_path: Path,
    name: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plot(capfd, monkeypatch, store, "--out", name) == (code, "", message)


def test_plot_without_runs_is_an_error(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    message = "error: there are no finished runs to plot; run 'thumbtune train' first\n"
    assert plot(capfd, monkeypatch, migrated_sqlite_url) == (1, "", message)
    assert list(tmp_path.glob("*.png")) == []


def test_the_list_rounds_settings_like_figures(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, migrated_sqlite_url: str
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    settings = {"temperature": 0.051158281920916406, "lr": 3.955181054064808e-05, "epochs": 7}
    database = open_database(migrated_sqlite_url)
    with database.write() as session:
        start_run(session, base_model="clip", trained="all", seed=1, settings=settings, packages={}, host="here", pid=1)
    database.close()
    with pytest.raises(SystemExit):
        main(["--db", migrated_sqlite_url, "runs", "--wide"])
    listed = capfd.readouterr().out
    assert all(told in listed for told in ("temperature 0.05116", "lr 3.955e-05", "epochs 7")), listed
