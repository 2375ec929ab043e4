"""A run sends heartbeats while it runs."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest

import trainer.runs.record
from store.db import Database
from store.tables import TrainingRun
from store.training import get_run, start_run
from trainer.runs import heartbeat


def test_heartbeats_come_and_end_with_the_block(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer.runs.record, "SIGN_OF_LIFE_S", 0.001)
    columns = {"base_model": "m", "trained": "all", "seed": 1, "settings": {}, "packages": {}}
    with sqlite_database.write() as session:
        run_id = start_run(session, **columns, host="here", pid=1)
    seen = set[datetime | None]()
    with heartbeat(sqlite_database, TrainingRun, run_id):
        while len(seen) < 3:  # the first is from the start
            with sqlite_database.read() as session:
                seen.add(get_run(session, run_id).seen_at)
    assert not any(thread.name == "heartbeats" for thread in threading.enumerate())
