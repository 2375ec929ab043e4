"""The query for the last syncs, once a minute: the rows that it reads must not grow with the history."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from store.db import Database
from store.tables import SyncStatus
from store.youtube import LastSync, begin_sync, finish_sync, last_syncs
from tests.store.observations import CHANNEL, add_channel, at


def test_queries_of_the_last_syncs_use_an_index(sqlite_database: Database) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        asked.append((statement, parameters))

    event.listen(sqlite_database.engine, "before_cursor_execute", note)
    with sqlite_database.read() as session:
        last_syncs(session)
    event.remove(sqlite_database.engine, "before_cursor_execute", note)

    steps: list[str] = []
    with sqlite_database.read() as session:
        for statement, parameters in asked:
            if "sync_run" in statement:
                plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                steps += [step for *_, step in plan if "sync_run" in step]
    assert {step.partition(" sync_run ")[0] for step in steps} == {"SEARCH"}, steps
    by = {step.partition(" INDEX ")[2] for step in steps}
    assert by == {
        "",  # by the rowid
        "ix_sync_run_channel_id_status_id (channel_id=? AND status=?)",
        "ix_sync_run_channel_id_status_id (channel_id=? AND status=? AND id>?)",
    }


@pytest.mark.parametrize("status", ["complete", "unchanged", "partial"])
def test_the_newest_finished_sync_counts(database: Database, status: SyncStatus) -> None:
    """For each of the three kinds, and with any syncs of another channel."""
    statuses: list[SyncStatus] = ["failed", "complete", "unchanged", "partial", "failed", status, "failed", "failed"]
    with database.write() as session:
        for channel in (CHANNEL, "UCother", "UCnever"):
            add_channel(session, channel)
        for hour, ended in enumerate(statuses):
            run = begin_sync(session, CHANNEL, "incremental", host="here", pid=1, now=at(hour))
            finish_sync(session, run, ended, seconds=1, error=None, now=at(hour + 0.5))
            run = begin_sync(session, "UCother", "incremental", host="here", pid=1, now=at(hour))
            finish_sync(session, run, "failed", seconds=1, error=None, now=at(hour + 0.5))
    with database.read() as session:
        assert last_syncs(session) == {
            CHANNEL: LastSync(at(5.5), at(7.5), 2),
            "UCother": LastSync(None, at(7.5), len(statuses)),
        }
