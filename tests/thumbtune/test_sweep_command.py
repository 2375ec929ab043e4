"""`thumbtune sweep` and `runs --sweep` as users and scripts run them; killed and resumed sweeps."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from store.db import open_database
from store.training import get_sweep, trial_scores
from tests import forked
from tests.thumbtune.asking import Run, make_clip, runner
from tests.trainer.tiny import fill
from trainer.errors import TrainingInterrupted
from trainer.settings import TrainSettings
from trainer.sweep import Space, SweepSettings
from trainer.sweep import search as sweeping

pytestmark = pytest.mark.slow

STEPS = ("--train", "projection", "--fit", "crop", "--with-reader", "no")
SMALL = (*STEPS, "--trials", "4", "--seeds", "2", "--finalists", "2", "--final-seeds", "1", "--epochs", "1:3")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP's folder."""
    return make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def store(migrated_sqlite_url: str) -> str:
    """The URL of a store with 40 pairs."""
    database = open_database(migrated_sqlite_url)
    fill(database, 40)
    database.close()
    return migrated_sqlite_url


@pytest.fixture
def thumbtune(store: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command on that store, in this process."""
    return runner(store, monkeypatch, capfd)


def arguments(clip: Path, *more: str) -> tuple[str, ...]:
    return ("sweep", "--model", str(clip), "--title-model", "base", "--device", "cpu", *SMALL, *more)


class Stopped:
    """Progress that stops a sweep, as Ctrl-C would, before its best trials get more seeds."""

    def phase(self, description: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        if description == "Training the best with more seeds":
            raise KeyboardInterrupt
        return nullcontext(lambda _n: None)

    def warn(self, text: str) -> None:
        pass


def tried(store: str, sweep_id: int) -> list[tuple[int, int, dict[str, Any], float | None]]:
    """(trial, seed, settings, recall@1) of every run of a sweep's trials."""
    database = open_database(store)
    with database.read() as session:
        scores = trial_scores(session, sweep_id)
    database.close()
    return [(score.trial, score.seed, score.settings, score.recall_at_1) for score in scores]


def test_json_is_one_document(thumbtune: Run, clip: Path, store: str) -> None:
    found = thumbtune(*arguments(clip, "--json")).document()
    assert (found["sweep_id"], found["trials"], found["failed"], found["runs"]) == (1, 4, 0, 10)
    assert found["n_valid"] == 6
    best = found["standings"][0]
    assert best["seeds"] == 3
    assert {name: best["settings"][name] for name in found["settings"]} == found["settings"]
    assert set(found["recall_at_1"]["tuned"]) == {"train", "valid"}
    shell = sqlite3.connect(store.removeprefix("sqlite:///"))
    row = shell.execute(
        "select valid_recall_at_1, test_recall_at_1, base_valid_recall_at_1 from run_history where run_id = ?",
        (found["run_id"],),
    ).fetchone()
    shell.close()
    recall = found["recall_at_1"]
    assert row == (
        recall["tuned"]["valid"]["value"],
        None,
        recall["base"]["valid"]["value"],
    )


def test_the_text_output_of_a_sweep(thumbtune: Run, clip: Path) -> None:
    done = thumbtune(*arguments(clip))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("sweep 1: 4 trials, 10 runs in ")
    assert lines[0].endswith("ranked on 6 valid pairs")
    assert lines[2].split()[:4] == ["trial", "lr", "epochs", "batch"], "only settings that differ"
    assert len(lines[3:-4]) == 4, "one line per trial"
    assert lines[-4].startswith("the base model, --fit crop: valid recall@1 ")
    assert lines[-3].startswith("winner: trial ")
    assert lines[-3].endswith(" over 3 seeds")
    assert lines[-2].startswith("run 11: valid recall@1 ")
    assert "n = 6)" in lines[-2]
    (winner,) = [run for run in thumbtune("runs", "--json").document()["runs"] if run["run_id"] == 11]
    assert lines[-1].startswith("run 11 is in use now" if winner["in_use"] else "run 11 is not in use")
    assert "the base model" in lines[-1]
    known = ("Opening", "Encoding", "Embedding", "Comparing", "Choosing", "Trying settings", "Training")
    assert [line for line in done.stderr.splitlines() if not line.startswith(known)] == [], "no library prints"
    assert thumbtune("-q", *arguments(clip)).stderr == ""


def test_the_winner_replaces_the_champion_only_if_it_is_better(thumbtune: Run, clip: Path) -> None:
    learnt = ("--train", "projection", "--epochs", "60", "--lr", "0.03")
    assert thumbtune("train", "--model", str(clip), "--title-model", "base", "--device", "cpu", *learnt).returncode == 0
    thumbtune("runs", "promote", "1")
    untouched = ("--trials", "1", "--epochs", "1", "--lr", "1e-12")
    done = thumbtune(*arguments(clip, *untouched))
    last = done.stdout.splitlines()[-1]
    assert ", the champion (run 1) " in last
    run = thumbtune("runs", "--json").document()["runs"][-1]
    assert last.endswith(f": thumbtune runs promote {run['run_id']}")
    assert run["in_use"] is False
    found = thumbtune(*arguments(clip, *untouched, "--json")).document()
    assert found["in_use"] is False
    assert "the champion (run 1)" in found["reason"]


def test_the_base_model_is_scored_on_the_same_rows(thumbtune: Run, clip: Path, store: str) -> None:
    """The winner is trained on more pairs than its trial, because pairs were added while the sweep was stopped."""
    database = open_database(store)
    shared = TrainSettings(train="projection", model=str(clip), title_model="base", device="cpu")
    settings = SweepSettings(shared, Space.read({"epochs": "1:3"}), trials=3, seeds=1, finalists=1, final_seeds=1)
    with pytest.raises(TrainingInterrupted):
        sweeping.run_sweep(database, settings, progress=Stopped())
    fill(database, 20, "UC2")
    database.close()
    lines = thumbtune("sweep", "--resume", "1").stdout.splitlines()
    assert lines[0].startswith("note: pairs were added, removed or changed")
    assert lines[1].endswith("ranked on 6 valid pairs")
    assert lines[-3].startswith("winner: trial ")
    assert "base" not in lines[-3]
    assert ": valid recall@1 " in lines[-2]
    assert lines[-2].count("n = 9)") == 2, "the recall of the run and of the base model"


def test_trials_are_listed_only_on_request(thumbtune: Run, clip: Path) -> None:
    thumbtune(*arguments(clip))
    assert [run["run_id"] for run in thumbtune("runs", "--json").document()["runs"]] == [11]
    listed = thumbtune("runs", "--sweep", "1", "--json").document()["runs"]
    assert [run["trial"] for run in listed].count(None) == 1
    assert len(listed) == 11
    shown = thumbtune("runs", "--sweep", "1").stdout.splitlines()
    assert shown[0].split()[:5] == ["run", "status", "trial", "seed", "lr"]
    assert len(shown) == 12
    assert thumbtune("runs", "--sweep", "9").error().startswith("error: there is no sweep 9")
    told = thumbtune("evaluate", "--model", "1").error()
    assert told.startswith("error: run 1 ")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--lr", "1:0.1"), 2, "error: --lr '1:0.1' is an empty range; write the lower end first, as LOW:HIGH"),
        (("--epochs", "many"), 2, "error: --epochs 'many' is invalid"),
        (("--batch-size", "1"), 2, "error: batch size 1 is too small; use 2 or more"),
        (("--negatives", "easy"), 2, "error: --negatives 'easy' is invalid; use least-similar"),
        (("--temperature", "0:1"), 2, "error: temperature 0.0 is out of range"),
        (("--trials", "0"), 2, "error: --trials 0 "),
        (("--trials", "9" * 22), 2, "error: Invalid value for '--trials': 9999999999999999999999 is not in the range"),
        (("--seeds", "9" * 22), 2, "error: Invalid value for '--seeds': 9999999999999999999999 is not in the range"),
        (("--finalists", "9" * 22), 2, "error: Invalid value for '--finalists': 9999999999999999999999 is not in the"),
        (("--final-seeds", "9" * 22), 2, "error: Invalid value for '--final-seeds': 9999999999999999999999 is not in"),
        (("--seed", "2000000001"), 2, "error: Invalid value for '--seed': 2000000001 is not in the range"),
        (("--seed", "-1"), 2, "error: seed -1 is out of range; use 0 to 2000000000"),
        (("--timeout", "-1"), 2, "error: --timeout -1 is not a valid time"),
        (("--train", "all"), 2, "error: --train 'all' matches "),
        (("--channel", "@who"), 2, "error: channel '@who' is not in the store"),
        (("--resume", "1"), 2, "error: --resume uses the sweep's own settings"),
    ],
)
def test_errors_are_one_line(thumbtune: Run, clip: Path, options: tuple[str, ...], code: int, message: str) -> None:
    done = thumbtune(*arguments(clip, *options))
    assert done.error().startswith(message)
    assert done.returncode == code


def test_an_unknown_sweep_is_an_error(thumbtune: Run) -> None:
    assert thumbtune("sweep", "--resume", "7").error().startswith("error: there is no sweep 7")


@pytest.mark.processes
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_sweep_resumes(thumbtune: Run, clip: Path, store: str, tmp_path: Path, kind: signal.Signals) -> None:
    """The same runs as in an uninterrupted sweep."""
    wanted = arguments(clip, "--trials", "20", "--lr", "0.001:0.01")
    command = [*forked.THUMBTUNE, "--db", store, *wanted]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = forked.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Trying settings: 4 of 20"):
            break
    process.send_signal(kind)
    _, told = process.communicate()
    if kind == signal.SIGTERM:
        assert process.returncode == 3
        assert told.splitlines()[-1].endswith("'thumbtune sweep --resume 1'")
    database = open_database(store)
    with database.read() as session:
        assert get_sweep(session, 1).status == ("running" if kind == signal.SIGKILL else "interrupted")
    database.close()
    known = tried(store, 1)
    assert {row[0] for row in known} >= {0, 1, 2, 3}
    found = thumbtune("sweep", "--resume", "1", "--json").document()
    assert (found["sweep_id"], found["trials"]) == (1, 20)
    whole = thumbtune(*wanted, "--json").document()
    assert tried(store, 1) == tried(store, 2)
    assert all(row in tried(store, 1) for row in known)
    assert found["settings"] == whole["settings"]
