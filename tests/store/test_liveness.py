"""Heartbeats decide whether a run of another machine is alive, regardless of the machine's name and clock."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import update

from store.db import Database
from store.processes import start_of
from store.tables import Sweep, TrainingRun
from store.training import (
    has_ended,
    lives_here,
    record_heartbeat,
    run_at_work,
    start_run,
    start_sweep,
    this_machine,
)
from store.training.liveness import mark_interrupted_rows
from store.types import utc_now
from store.youtube import LEASE, clock


def not_here(_host: str, _pid: int, _heard_at: datetime, _start: int | None) -> None:
    """The state of another machine's process, as known on this machine: unknown."""


def start(database: Database, model: type[TrainingRun | Sweep]) -> int:
    with database.write() as session:
        if model is Sweep:
            return start_sweep(session, {}, "elsewhere", 1)
        columns = {"base_model": "m", "trained": "all", "seed": 1, "settings": {}, "packages": {}}
        return start_run(session, **columns, host="elsewhere", pid=1)


def status(database: Database, model: type[TrainingRun | Sweep], row_id: int) -> tuple[str, object, object]:
    with database.read() as session:
        row = cast("TrainingRun | Sweep", session.get_one(model, row_id))
        return row.status, row.error, row.finished_at


@pytest.mark.parametrize("model", [TrainingRun, Sweep])
@pytest.mark.parametrize(("silent", "left"), [(LEASE * 0.9, "running"), (LEASE * 1.1, "interrupted")])
def test_a_silent_process_on_another_machine_counts_as_ended(
    database: Database, model: type[TrainingRun | Sweep], silent: timedelta, left: str
) -> None:
    row_id = start(database, model)
    with database.write() as session:
        # Began long ago, before the checking machine was booted.
        values = {"started_at": utc_now() - timedelta(days=400), "seen_at": clock(session, utc_now()) - silent}
        session.execute(update(model).values(values))
    with database.write() as session:
        mark_interrupted_rows(session, model, not_here)
    assert status(database, model, row_id)[0] == left


@pytest.mark.parametrize("model", [TrainingRun, Sweep])
def test_a_run_marked_as_interrupted_is_running_again_after_a_heartbeat(
    database: Database, model: type[TrainingRun | Sweep]
) -> None:
    """This happens after a pause of the process, or if the judging machine's clock was put forward."""
    row_id = start(database, model)
    with database.write() as session:
        session.execute(update(model).values(seen_at=clock(session, utc_now()) - 2 * LEASE))
        assert mark_interrupted_rows(session, model, not_here) == [row_id]
    with database.write() as session:
        record_heartbeat(session, model, row_id)
        assert mark_interrupted_rows(session, model, not_here) == []
    assert status(database, model, row_id) == ("running", None, None)


@pytest.mark.parametrize("left", ["done", "failed", "interrupted"])
def test_a_heartbeat_does_not_reopen_an_ended_run(database: Database, left: str) -> None:
    row_id = start(database, TrainingRun)
    with database.write() as session:
        session.execute(update(TrainingRun).values(status=left, error="stopped by a signal"))
    with database.write() as session:
        record_heartbeat(session, TrainingRun, row_id)
    assert status(database, TrainingRun, row_id)[0] == left


def test_a_local_process_is_checked_with_its_last_heartbeat(database: Database) -> None:
    """By the current clock, the process may have started after its run, because the clock was put forward."""
    start(database, TrainingRun)
    asked: list[datetime] = []

    def look(_host: str, _pid: int, heard_at: datetime, _start: int | None) -> bool:
        asked.append(heard_at)
        return False

    with database.write() as session:
        seen_at = clock(session, utc_now())
        session.execute(update(TrainingRun).values(started_at=seen_at - timedelta(days=9), seen_at=seen_at))
        mark_interrupted_rows(session, TrainingRun, look)
        session.execute(update(TrainingRun).values(seen_at=None))  # written by an earlier version
        mark_interrupted_rows(session, TrainingRun, look)
    assert asked == [seen_at, seen_at - timedelta(days=9)]


@pytest.mark.processes
@pytest.mark.skipif(start_of(os.getpid()) is None, reason="starts are read from /proc")
@pytest.mark.parametrize("model", [TrainingRun, Sweep])
def test_a_clock_put_forward_does_not_end_a_running_run(database: Database, model: type[TrainingRun | Sweep]) -> None:
    """The recorded times are of the old clock. By the new clock, the process seems to have started later."""
    row_id, before = start(database, model), utc_now() - timedelta(days=9)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        of_process = {"host": this_machine(), "pid": process.pid, "process_start": start_of(process.pid)}
        with database.write() as session:
            session.execute(update(model).values(started_at=before, seen_at=before, **of_process))
            assert mark_interrupted_rows(session, model, has_ended) == []
            if model is TrainingRun:
                assert run_at_work(session, lives_here) is not None
        process.kill()
        process.wait()
        with database.write() as session:
            assert mark_interrupted_rows(session, model, has_ended) == [row_id]
