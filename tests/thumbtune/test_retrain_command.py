"""`thumbtune retrain`, `runs promote` and `runs champions` as cron and people run them, against a stand-in server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from store.db import open_database
from store.training import champion_ids
from tests import forked
from tests.collector.channels import channel, video
from tests.standin import Fault, Faults, StandIn
from tests.store.builders import list_runs
from tests.trainer.tiny import COLOURS, SHAPES, build_clip, draw
from thumbtune.cli import main
from thumbtune.standin.catalogue import StandInVideo
from trainer.quiet import quiet_libraries

pytestmark = pytest.mark.processes


def drawn(numbers: range) -> list[StandInVideo]:
    """Videos whose titles describe their thumbnails, so that a model can learn."""
    found = []
    for number in numbers:
        colour, shape = COLOURS[number % 10], SHAPES[number // 10 % 3]
        picture = draw(colour, shape, number) + str(number).encode()
        found.append(video(number, title=f"{colour} {shape} {number}", picture=partial(bytes, picture)))
    return found


class Done(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str

    def document(self) -> Any:
        """Parse stdout, which must be one JSON document."""
        return json.loads(self.stdout)

    def error(self) -> str:
        """Return the error line."""
        assert "Traceback" not in self.stderr
        (line,) = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        return line


class Shell:
    """Runs commands on one store against one server."""

    def __init__(self, url: str, server: StandIn, clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.url = url
        self.server = server
        self.model = ("--model", str(clip), "--title-model", "base", "--device", "cpu")
        self._capfd = capfd

    def run(self, *arguments: str) -> Done:
        """Run a command in this process, which has imported torch."""
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as exited:
            main(["--db", self.url, *arguments])
        told = self._capfd.readouterr()
        return Done(int(exited.value.code or 0), told.out, told.err)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run a command in its own process."""
        return forked.Popen(
            [*forked.THUMBTUNE, "--db", self.url, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start_training(self) -> subprocess.Popen[str]:
        """Start a retraining that does not end; return when it trains."""
        steps = ("--train", "projection", "--epochs", "1000000")
        process = self.start("retrain", "--no-sync", "--force", *self.model, *steps)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Training"):
                break
        assert process.poll() is None
        return process

    def publish(self, numbers: range) -> None:
        self.server.catalogues[0].publish(*drawn(numbers))

    def statuses(self) -> list[str]:
        database = open_database(self.url)
        with database.read() as session:
            found = [run.status for run in list_runs(session)]
        database.close()
        return found

    def champions(self) -> list[int]:
        database = open_database(self.url)
        with database.read() as session:
            found = champion_ids(session)
        database.close()
        return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP's folder."""
    with quiet_libraries():
        return build_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture
def shell(
    migrated_sqlite_url: str,
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Shell]:
    """An empty store, and a channel of 40 videos."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    catalogue = channel(0)
    catalogue.publish(*drawn(range(40)))
    with StandIn(catalogue, keys=["stand-in-key"]) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield Shell(migrated_sqlite_url, server, clip, capfd)


def test_weekly_retraining_of_a_growing_channel(shell: Shell, clip: Path) -> None:
    first = shell.run("retrain", "@tests", *shell.model, "--train", "projection", "--lr", "0.01", "--json")
    assert first.returncode == 0, first.stderr
    found = first.document()
    assert found["sync"][0]["status"] == "complete"
    assert found["new_pairs"] == {"videos": 40, "changed": 0, "total": 40}
    assert (found["run"]["run_id"], found["settings_from_run"]) == (1, None)
    assert found["champion_run_id"] == (1 if found["promoted"] else None)
    assert "the base model" in found["reason"]
    shell.run("runs", "promote", "1")

    shell.publish(range(40, 44))
    idle = shell.run("retrain", "--json")
    assert idle.returncode == 0, idle.stderr
    scopes = idle.document()["scopes"]
    assert [(one["scope"], one["champion_run_id"]) for one in scopes] == [([], 1)]
    assert {name: value for name, value in idle.document().items() if name != "scopes"} == {
        "sync": idle.document()["sync"],
        "new_pairs": {"videos": 4, "changed": 0, "total": 4},
        "min_new": 10,
        "settings_from_run": 1,
        "run": None,
        "promoted": False,
        "reason": None,
        "champion_run_id": 1,
    }
    assert shell.statuses() == ["done"]

    shell.publish(range(44, 50))
    third = shell.run("retrain", "--seed", "7", "--output", "whole", "--json")
    assert third.returncode == 0, third.stderr
    found = third.document()
    assert found["new_pairs"]["total"] == 10
    assert (found["settings_from_run"], found["run"]["champion_run_id"]) == (1, 1)
    assert found["champion_run_id"] == (2 if found["promoted"] else 1)
    assert "the champion (run 1)" in found["reason"]
    assert Path("whole/model.safetensors").is_file()
    settings = [run["settings"] for run in shell.run("runs", "--json").document()["runs"]]
    assert [(s["lr"], s["seed"], s["model"]) for s in settings] == [(0.01, 42, str(clip)), (0.01, 7, str(clip))]


def test_the_text_output_of_retrain(shell: Shell) -> None:
    first = shell.run("retrain", "@tests", *shell.model)
    assert "'retrain CHANNEL' is now" in first.stderr
    assert "40 new pairs (40 of new videos, 0 " in first.stdout
    assert ": the defaults\n" in first.stdout
    assert "the base model" in first.stdout.splitlines()[-1]
    shell.run("runs", "promote", "1")
    shell.publish(range(40, 41))
    idle = shell.run("-q", "retrain")
    assert idle.stdout.splitlines()[-1].startswith("1 new pair (1 of new videos, 0 ")
    assert "fewer than --min-new 10" in idle.stdout
    same = shell.run("retrain", "--min-new", "1", "--no-sync", "--device", "cpu")
    assert ": those of run 1\n" in same.stdout
    assert "run 2: 1,024 of " in same.stdout
    table = [line.split() for line in same.stdout.splitlines() if line.startswith(("split", "train", "valid", "test"))]
    assert "champion's" in same.stdout
    assert [row[0] for row in table if row[3] == "-"] == ["train"], "the champion is scored on held-out rows"
    listed = shell.run("runs", "--wide").stdout.splitlines()
    assert listed[0].split()[:3] == ["run", "in", "use"]
    marked = [line.split()[0] for line in listed[1:] if line.split()[1] == "*"]
    assert marked == [str(shell.champions()[-1])]


def test_a_worse_model_is_reported_and_not_promoted(shell: Shell) -> None:
    untouched = ("--train", "projection", "--epochs", "1", "--lr", "1e-12")
    shell.run("retrain", "@tests", *shell.model, *untouched)
    shell.run("runs", "promote", "1")
    shell.run("retrain", "--no-sync", "--force", "--device", "cpu", "--train", "all", "--epochs", "40", "--lr", "0.003")
    assert shell.champions() == [1], "6 held-out pairs change nothing"
    shell.run("runs", "promote", "2")
    assert shell.champions() == [1, 2]
    done = shell.run("retrain", "--no-sync", "--force", "--device", "cpu", *untouched)
    assert done.returncode == 0
    last = done.stdout.splitlines()[-1]
    assert last.startswith("run 2 stays in use: valid recall@1 ")
    assert "the champion (run 2) " in last
    assert "thumbtune runs promote 3" in last
    assert shell.champions() == [1, 2]


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


def test_without_new_pairs_no_model_library_is_imported(shell: Shell) -> None:
    shell.run("retrain", "@tests", *shell.model)
    command = [sys.executable, "-X", "importtime", "-m", "thumbtune", "--db", shell.url, "retrain"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing to train" in done.stdout
    assert "aiohttp" in imported(done)
    assert not imported(done) & {"torch", "transformers", "numpy", "scipy", "pandas"}
    without = subprocess.run([*command, "--no-sync"], capture_output=True, text=True, check=True)
    assert "nothing to train" in without.stdout
    assert not imported(without) & {"aiohttp", "collector", "torch", "transformers", "numpy"}


def test_a_sync_that_stopped_early_does_not_prevent_the_training(shell: Shell) -> None:
    shell.server.faults = Faults([Fault("body", path="/vi/video000001/", body=b"GIF89a")], most_in_a_row=None)
    done = shell.run("retrain", "@tests", *shell.model, "--json")
    assert done.returncode == 3
    found = done.document()
    assert (found["sync"][0]["status"], found["new_pairs"]["total"], found["promoted"]) == ("partial", 39, True)

    shell.publish(range(40, 45))
    shell.server.quota.limit = shell.server.units
    spent = shell.run("retrain", "--force", "--json")
    assert spent.returncode == 3
    assert "daily quota" in spent.error()
    assert spent.document()["run"]["run_id"] == 2


def test_a_closed_channel_does_not_prevent_training_on_the_others(shell: Shell) -> None:
    closed = channel(0, name="closed")
    closed.publish(*(video(number, id=f"closed{number:05d}") for number in range(40, 45)))
    shell.server.catalogues = (*shell.server.catalogues, closed)
    assert shell.run("sync", "@closed", "@tests").returncode == 0
    shell.server.catalogues = shell.server.catalogues[:1]
    done = shell.run("retrain", *shell.model, "--json")
    assert done.returncode == 1
    assert f"YouTube no longer lists channel {closed.channel_id}" in done.error()
    found = done.document()
    assert sorted(report["status"] for report in found["sync"]) == ["failed", "unchanged"]
    assert (found["new_pairs"]["total"], found["run"]["run_id"]) == (45, 1)


def test_a_failed_sync_ends_the_command(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.run("sync", "@tests")
    shell.publish(range(40, 41))
    monkeypatch.setenv("YOUTUBE_API_KEY", "another-key")
    done = shell.run("retrain", *shell.model, "--json")
    assert done.returncode == 1
    assert "is invalid" in done.error()
    assert done.document()["sync"][0]["status"] == "failed"
    assert (done.document()["run"], done.document()["new_pairs"]) == (None, None)
    assert shell.statuses() == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["@tests", "--no-sync"], 2, "--no-sync excludes channels to sync"),
        (["tests"], 2, "did you mean @tests?"),
        ([], 2, "no channels yet; name one: thumbtune sync @HANDLE"),
        (["@tests", "--min-new", "-1"], 2, "--min-new"),
        (["@tests", "--epochs", "0"], 2, "epochs 0 "),
        (["--no-sync", "--channel", "@who"], 2, "channel '@who' is not in the store"),
        (["--no-sync", "--force"], 1, "sentence-transformers/clip-ViT-L-14 is not in the local cache"),
    ],
)
def test_usage_errors_are_one_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    if said.startswith("sentence"):
        shell.run("sync", "@tests")
        shell.server.journal.clear()
    done = shell.run("retrain", *arguments)
    assert said in done.error()
    assert done.returncode == code
    assert done.stdout == ""
    assert shell.server.journal.count() == 0, "no request was sent"


def test_starting_from_a_missing_champion_is_an_error(shell: Shell) -> None:
    done = shell.run("retrain", "@tests", "--from", "champion")
    assert done.returncode == 2
    assert "there is no champion to start from" in done.error()


def test_a_missing_store_is_an_error(shell: Shell, tmp_path: Path) -> None:
    shell.url = f"sqlite:///{tmp_path}/none.db"
    done = shell.run("retrain")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no store at" in done.error()
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_sync_ends_the_command(shell: Shell, number: signal.Signals) -> None:
    shell.server.faults = Faults([Fault("hang", path="/vi/video000001/", times=1, delay_s=60)])
    process = shell.start("retrain", "@tests", "--min-new", "0", *shell.model)
    deadline = time.monotonic() + 60
    while shell.server.journal.count("picture") < 10 and process.poll() is None:
        assert time.monotonic() < deadline
        os.sched_yield()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    shell.server.release()
    assert process.returncode == 3, told
    assert "error: interrupted" in told
    assert shell.statuses() == []


def test_a_killed_retraining_keeps_the_champion_and_can_be_repeated(shell: Shell) -> None:
    shell.run("retrain", "@tests", *shell.model)
    shell.run("runs", "promote", "1")
    shell.publish(range(40, 60))
    shell.run("sync")
    process = shell.start_training()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (shell.statuses(), shell.champions()) == (["done", "running"], [1])
    done = shell.run("retrain", "--no-sync", "--json")
    assert done.returncode == 0, done.stderr
    assert done.document()["new_pairs"]["total"] == 20
    assert done.document()["run"]["champion_run_id"] == 1
    assert shell.statuses() == ["done", "interrupted", "done"]


def test_a_second_concurrent_retraining_is_refused(shell: Shell) -> None:
    shell.run("sync", "@tests")
    process = shell.start_training()
    try:
        done = shell.run("retrain", *shell.model)
        assert done.returncode == 3
        assert f"error: run 1 (process {process.pid}) is training" in done.error()
        assert shell.statuses() == ["running"]
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 3
    assert "run 1 was interrupted" in told
    assert shell.run("retrain", *shell.model).returncode == 0


def test_manual_promotion_and_the_history_of_champions(shell: Shell) -> None:
    assert shell.run("runs", "champions").stdout.startswith("no trained run is in use")
    shell.run("sync", "@tests")
    for seed in ("1", "2"):
        shell.run("train", *shell.model, "--train", "projection", "--lr", "1e-12", "--seed", seed)
    shell.run("runs", "promote", "1", "--reason", "to begin with")
    done = shell.run("runs", "promote", "2", "--reason", "it reads\x1b[31m better")
    assert (done.returncode, done.stdout) == (0, "run 2 is now the champion of all channels instead of run 1\n")
    assert shell.run("runs", "promote", "2").stdout == "run 2 is already the champion of all channels\n"
    back = shell.run("runs", "promote", "1", "--json").document()
    assert back == {"run_id": 1, "replaced_run_id": 2, "changed": True}
    assert [run["in_use"] for run in shell.run("runs", "--json").document()["runs"]] == [True, False]

    rows = shell.run("runs", "champions", "--json").document()["champions"]
    assert [(row["run_id"], row["reason"]) for row in rows] == [
        (1, "to begin with"),
        (2, "it reads\x1b[31m better"),
        (1, "by hand"),
    ]
    assert [row["replaced_at"] for row in rows] == [rows[1]["promoted_at"], rows[2]["promoted_at"], None]
    assert rows[0]["promoted_at"].endswith("+00:00")
    shown = shell.run("runs", "champions").stdout
    assert "\x1b" not in shown
    assert [line.split()[0] for line in shown.splitlines()] == ["run", "1", "2", "1"]
    assert " now " in shown.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["7"], 1, "there is no run 7; 'thumbtune runs' lists them"),
        (["one"], 2, "'one' is not a valid integer"),
        (["1", "--reason", " "], 2, "--reason is empty"),
        (["1"], 1, "run 1 is failed, so it has no model"),
        (["2"], 1, "the run's tensors were not found"),
    ],
)
def test_runs_that_cannot_be_promoted(shell: Shell, arguments: list[str], code: int, said: str) -> None:
    shell.run("sync", "@tests")
    shell.run("train", *shell.model, "--train", "no such parameter")
    shell.run("train", *shell.model)
    shell.run("runs", "promote", "2")
    for file in Path("thumbtune-models").iterdir():
        file.unlink()
    done = shell.run("runs", "promote", *arguments)
    assert said in done.error()
    assert (done.returncode, done.stdout) == (code, "")
    assert shell.champions() == [2]
