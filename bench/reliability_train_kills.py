"""`kill -9` at many points of a training run: the next run completes, with the results of an undisturbed run.

The runs are forked from a process that has imported the libraries, so that the kills hit the run and not the imports.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import sqlite3
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from operator import methodcaller
from pathlib import Path
from typing import Any

from bench.reliability_kills import Kill
from bench.reliability_lab import Row, Shell, problems, read_store
from store.db import Database
from store.tables import Evaluation, TrainingRun
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.session import ENCODER
from thumbtune.standin.server import StandIn

__all__ = ["KilledAt", "kill_training", "kill_trainings", "start_training", "train"]

PAIRS = 120
EPOCHS = "40"
KilledAt = Callable[[ForkServerProcess], object]
"""Waits until the process should be killed."""


def start_training(store: Path, model: Path) -> ForkServerProcess:
    """Start `thumbtune train` on a store, with the output in the same folder."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.reliability_warm"])
    process = context.Process(target=_train, args=(store, model))
    before = dict(os.environ)
    # The first call starts the fork server, which keeps this environment.
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        process.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return process


def _train(store: Path, model: Path) -> None:
    from thumbtune.cli import main  # noqa: PLC0415 (only needed in the forked process)

    said = os.open(store.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.chdir(store.parent)
    database = f"sqlite:///{store}"
    chosen = ["--model", str(model), "--title-model", "base", "--device", "cpu", "--epochs", EPOCHS]
    output = store.with_name(f"{store.stem}-{os.getpid()}")
    main(["-q", "--db", database, "train", *chosen, "--output", str(output)])


def train(store: Path, model: Path) -> int | None:
    """Train; return the exit code."""
    process = start_training(store, model)
    process.join()
    return process.exitcode


def kill_training(store: Path, model: Path, moment: KilledAt, wanted: list[tuple[Any, ...]]) -> Kill:
    """Kill a training run, check the store, and train again.

    Args:
        store: a file with pairs and without runs.
        model: the CLIP model's folder.
        moment: returns when the process should be killed.
        wanted: the evaluations of an undisturbed run.
    """
    process = start_training(store, model)
    moment(process)
    process.kill()
    process.join()
    url = f"sqlite:///{store}"
    found = Kill(hit=process.exitcode == -9, problems=read_store(url, problems))
    code = train(store, model)
    if code != 0:
        found.problems.append(f"the next run ended with {code}: {store.with_suffix('.log').read_text()[-300:]}")
        return found
    ended_as = read_store(url, run_statuses)
    if ended_as not in (["done"], ["interrupted", "done"], ["done", "done"]):
        found.problems.append(f"the runs have the statuses {ended_as}")
    if ended_as == ["done", "done"]:
        # The run ended before the kill; the second run also scores the model of the first run.
        found.hit = False
    elif read_store(url, evaluations) != wanted:
        found.problems.append("the next run's results differ from those of an undisturbed run")
    found.problems += read_store(url, problems) + read_store(url, damaged_artifacts)
    return found


def run_statuses(database: Database) -> list[str]:
    """Return the status of each run, oldest first."""
    with database.read() as session:
        return [row.status for row in session.query(TrainingRun.status).order_by(TrainingRun.id)]


def evaluations(database: Database) -> list[tuple[Any, ...]]:
    """Return all evaluations of the newest run."""
    with database.read() as session:
        newest = session.query(TrainingRun.id).order_by(TrainingRun.id.desc()).limit(1).scalar_subquery()
        keys = (Evaluation.model, Evaluation.scope, Evaluation.split, Evaluation.direction, Evaluation.metric)
        query = session.query(*keys, Evaluation.value, Evaluation.n).where(Evaluation.run_id == newest)
        return [tuple(row) for row in query.order_by(*keys)]


def damaged_artifacts(database: Database) -> list[str]:
    """Return runs with status `done` whose artifact is missing or damaged."""
    with database.read() as session:
        runs = session.query(TrainingRun).where(TrainingRun.status == "done", TrainingRun.artifact_path.is_not(None))
        return [f"the artifact of run {run.id} is missing or damaged" for run in runs if not _is_whole(run)]


def _is_whole(run: TrainingRun) -> bool:
    path = Path(run.artifact_path or "")
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == run.artifact_sha256


def kill_trainings(folder: Path, *, quick: bool) -> list[Row]:
    """Kill first training runs at random times (seeded) spread over a run's duration."""
    kills, filled = 3 if quick else 50, folder / "filled.db"
    with StandIn(drawn_channel(PAIRS)) as server:
        Shell.of(f"sqlite:///{filled}", server).run("sync", server.catalogues[0].handle)
    clean = _copy(filled, folder / "clean.db")
    train(_copy(filled, folder / "warm-up.db"), ENCODER)
    started = time.monotonic()
    if train(clean, ENCODER) != 0:
        raise SystemExit(f"an undisturbed training run failed: {clean.with_suffix('.log').read_text()}")
    duration_s = time.monotonic() - started
    wanted = read_store(f"sqlite:///{clean}", evaluations)
    dice = random.Random(0)
    moments = [(number + dice.random()) / kills * duration_s for number in range(kills)]
    found = [_kill_at(filled, folder / f"killed-{number}", after_s, wanted) for number, after_s in enumerate(moments)]
    wrong = [problem for kill in found for problem in kill.problems]
    hit = sum(kill.hit for kill in found)
    return [
        Row(
            "a killed training run is marked interrupted, the store is sound, and the next run completes",
            f"kill -9 at random times of a run of {duration_s:.1f} s, then a run",
            kills,
            f"{hit} killed while running; {wrong[0] if wrong else 'all next runs match an undisturbed run'}",
            not wrong and hit == kills,
        )
    ]


def _kill_at(filled: Path, store: Path, after_s: float, wanted: list[tuple[Any, ...]]) -> Kill:
    """Kill after a time; if the run had already ended, try again with a shorter time."""
    for attempt in range(20):
        copy = _copy(filled, store.with_name(f"{store.name}-{attempt}.db"))
        found = kill_training(copy, ENCODER, methodcaller("join", after_s * 0.85**attempt), wanted)
        if found.hit or found.problems:
            break
    return found


def _copy(source: Path, target: Path) -> Path:
    with sqlite3.connect(source) as opened, sqlite3.connect(target) as copy:
        opened.backup(copy)
    opened.close()
    copy.close()
    return target
