"""`kill -9` at three points of a training run, each recognised by the rows of the store."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.reliability_lab import read_store
from bench.reliability_train_kills import evaluations, kill_training, train
from store.db import open_database
from tests.trainer.tiny import fill

pytestmark = pytest.mark.processes


class Filled(NamedTuple):
    """A store with pairs and without runs, and the results of an undisturbed run."""

    bytes: bytes
    wanted: list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, tiny_clip: Path) -> Filled:
    store = tmp_path_factory.mktemp("clean") / "clean.db"
    database = open_database(f"sqlite:///{store}")
    fill(database, 40)
    database.close()
    content = store.read_bytes()
    assert train(store, tiny_clip) == 0, store.with_suffix(".log").read_text()
    return Filled(content, read_store(f"sqlite:///{store}", evaluations))


@pytest.mark.parametrize("table", ["training_run", "feature", "training_step"])
def test_after_a_killed_run_the_next_run_completes(tmp_path: Path, tiny_clip: Path, filled: Filled, table: str) -> None:
    store = tmp_path / "killed.db"
    store.write_bytes(filled.bytes)

    def has_rows(process: ForkServerProcess) -> None:
        with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True)) as looking:
            while process.is_alive() and not looking.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                os.sched_yield()

    found = kill_training(store, tiny_clip, has_rows, filled.wanted)
    assert found.problems == []
    assert found.hit or table == "training_step"
