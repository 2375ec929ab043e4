"""Sync runs: their counts, their single end, and whether their process still runs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from store.db import Database, open_database
from store.processes import is_alive, start_of
from store.tables import SyncMode, SyncRun, SyncStatus, Video
from store.types import utc_now
from store.youtube import (
    LEASE,
    LastSync,
    SyncCounts,
    add_counts,
    begin_sync,
    being_synced,
    clock,
    end_stale_syncs,
    finish_sync,
    get_channel,
    get_sync,
    last_syncs,
    mark_refreshed,
    quota_day,
    record_heartbeat,
    record_page,
    refresh_began,
    sync_of_another,
    units_spent,
)
from tests.store.observations import CHANNEL, T0, add_channel, at, at_once, count, listed


def begin(database: Database, mode: SyncMode = "incremental", **changes: Any) -> int:
    values: dict[str, Any] = {"host": "here", "pid": 1, "now": T0}
    channel = changes.pop("channel", CHANNEL)
    with database.write() as session:
        return begin_sync(session, channel, mode, **values | changes)


@pytest.fixture
def run(database: Database) -> int:
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UCother")
    return begin(database)


def test_counters_start_at_zero_and_add_up(database: Database, run: int) -> None:
    first = SyncCounts(1, 2, 3, 4, 5, 6, 7, 8, 9)
    other = begin(database)
    with database.write() as session:
        add_counts(session, run, first, key_fingerprint="k", now=T0)
        add_counts(session, run, SyncCounts(), key_fingerprint="k", now=T0)
        add_counts(session, run, SyncCounts(pictures_failed=100, units=1), key_fingerprint="k", now=T0)
    with database.read() as session:
        row, untouched = get_sync(session, run), get_sync(session, other)
        assert units_spent(session, quota_day(T0), "k") == 10
    assert (row.listed, row.new, row.changed, row.gone) == (1, 2, 3, 4)
    assert (row.pictures_fetched, row.pictures_unchanged, row.pictures_failed) == (5, 6, 107)
    assert (row.requests, row.units, row.status) == (8, 10, "running")
    assert (untouched.listed, untouched.units, untouched.finished_at, untouched.seconds) == (0, 0, None, None)


def test_counters_are_committed_with_the_rows_that_they_count(database: Database, run: int) -> None:
    def killed_half_way() -> None:
        with database.write() as session:
            brought = record_page(session, CHANNEL, [listed("v1")], now=T0, known_until=None)
            counts = SyncCounts(listed=1, new=brought.new, units=1)
            add_counts(session, run, counts, key_fingerprint="k", now=T0)
            assert get_sync(session, run).new == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed_half_way()
    with database.read() as session:
        row = get_sync(session, run)
        assert (row.listed, row.new, row.units, units_spent(session, quota_day(T0))) == (0, 0, 0, 0)
    assert count(database, Video) == 0


def test_counts_of_concurrent_writers_add_up(database: Database, run: int) -> None:
    def one_more(session: Any) -> None:
        add_counts(session, run, SyncCounts(requests=1, units=1), key_fingerprint="k", now=T0)

    for _ in range(10):
        at_once(database, one_more, one_more, one_more)
    with database.read() as session:
        assert (get_sync(session, run).requests, units_spent(session, quota_day(T0))) == (30, 30)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "is_good"),
    [
        ("complete", True),
        ("unchanged", True),
        ("quota", False),
        ("partial", False),
        ("failed", False),
        ("interrupted", False),
    ],
)
def test_only_complete_and_unchanged_syncs_set_synced_at(
    database: Database, run: int, status: SyncStatus, is_good: bool
) -> None:
    with database.write() as session:
        add_counts(session, run, SyncCounts(new=3), key_fingerprint="k", now=T0)
        finish_sync(session, run, status, seconds=1.5, error="why", now=at(1))
    with database.read() as session:
        row = get_sync(session, run)
        assert (row.status, row.new, row.finished_at, row.seconds, row.error) == (status, 3, at(1), 1.5, "why")
        assert get_channel(session, CHANNEL).synced_at == (at(1) if is_good else None)
        assert get_channel(session, "UCother").synced_at is None


def test_only_runs_of_ended_processes_are_marked_as_interrupted(database: Database, run: int) -> None:
    dead = {1, 2}
    runs = {
        "dead": run,
        "also dead": begin(database, pid=2),
        "alive": begin(database, pid=3),
        "elsewhere": begin(database, host="there"),
        "other channel": begin(database, channel="UCother"),
        "done": begin(database),
    }
    with database.write() as session:
        finish_sync(session, runs["done"], "complete", seconds=1, error=None, now=at(1))
        add_counts(session, run, SyncCounts(new=4), key_fingerprint="k", now=T0)

    def is_alive(pid: int, started_at: datetime, _start: int | None) -> bool:
        assert started_at == T0 or not database.is_sqlite
        return pid not in dead

    def clean_up() -> int:
        with database.write() as session:
            return end_stale_syncs(session, CHANNEL, host="here", is_alive=is_alive, now=at(0.1))

    assert (clean_up(), clean_up()) == (2, 0)
    with database.read() as session:
        rows = {name: get_sync(session, run_id) for name, run_id in runs.items()}
    assert {name: row.status for name, row in rows.items()} == {
        "dead": "interrupted",
        "also dead": "interrupted",
        "alive": "running",
        "elsewhere": "running",
        "other channel": "running",
        "done": "complete",
    }
    assert (rows["dead"].finished_at, rows["dead"].new) == (at(0.1), 4)
    assert "the process ended unexpectedly" in (rows["dead"].error or "")
    assert (rows["done"].finished_at, rows["done"].error) == (at(1), None)


def test_different_clocks_do_not_end_syncs_of_other_machines(migrated_postgres_url: str) -> None:
    """Each machine writes and judges heartbeats by the server's clock."""
    opened = open_database(migrated_postgres_url)
    with opened.write() as session:
        add_channel(session)
    clocks = [utc_now() + timedelta(hours=hours) for hours in (-1, 0, 1)]
    running = [begin(opened, host=str(now), now=now) for now in clocks]
    for run_id, now in zip(running, clocks, strict=True):
        with opened.write() as session:
            add_counts(session, run_id, SyncCounts(new=1), key_fingerprint="k", now=now)
            record_heartbeat(session, run_id, now)
            assert end_stale_syncs(session, CHANNEL, host="here", is_alive=is_alive, now=now) == 0
            assert being_synced(session, now) == {CHANNEL}
        with opened.write() as session:
            # All machines mark a silent sync as interrupted.
            silent = begin_sync(session, CHANNEL, "full", host="silent", pid=1, now=now)
            session.execute(update(SyncRun).where(SyncRun.id == silent).values(seen_at=clock(session, now) - 2 * LEASE))
            assert end_stale_syncs(session, CHANNEL, host="here", is_alive=is_alive, now=now) == 1
    opened.close()


@pytest.mark.parametrize("host", ["here", "there"])
def test_a_run_without_heartbeats_is_marked_as_interrupted_on_any_machine(database: Database, host: str) -> None:
    with database.write() as session:
        add_channel(session)
    silent, counting, telling, old = (begin(database, host=host) for _ in range(4))
    with database.write() as session:
        add_counts(session, counting, SyncCounts(listed=1), key_fingerprint="k", now=at(1))
        record_heartbeat(session, telling, at(1))
        # A row of a version that sent no heartbeats.
        session.execute(update(SyncRun).where(SyncRun.id == old).values(seen_at=None))
        long_ago = clock(session, at(1.1)) - 1.1 * LEASE
        session.execute(update(SyncRun).where(SyncRun.id == silent).values(seen_at=long_ago))
    with database.write() as session:
        stale = end_stale_syncs(session, CHANNEL, host="here", is_alive=lambda _pid, _began, _start: True, now=at(1.1))
        assert stale == 2
    with database.read() as session:
        rows = {run_id: get_sync(session, run_id) for run_id in (silent, counting, telling, old)}
    assert [row.status for row in rows.values()] == ["interrupted", "running", "running", "interrupted"]
    assert "10 minutes" in (rows[silent].error or "")


def test_a_channel_that_is_or_was_just_synced_is_skipped(database: Database, run: int) -> None:
    def other(since: datetime, channel: str = CHANNEL) -> int | None:
        with database.write() as session:
            found = sync_of_another(session, channel, since, at(99))
            return None if found is None else found.id

    assert (other(at(5)), other(at(5), "UCother")) == (run, None)
    with database.write() as session:
        finish_sync(session, run, "complete", seconds=1, error=None, now=at(1))
    assert (other(at(0.9)), other(at(1.1))) == (run, None)
    failed = begin(database)
    with database.write() as session:
        finish_sync(session, failed, "failed", seconds=1, error="why", now=at(3))
    assert other(at(2)) is None


def test_of_concurrent_processes_one_gets_the_channel(database: Database, run: int) -> None:
    with database.write() as session:
        finish_sync(session, run, "complete", seconds=1, error=None, now=T0)
    for hour in range(1, 11):
        begun: list[int] = []

        def take(session: Any, begun: list[int] = begun, hour: int = hour) -> None:
            if sync_of_another(session, CHANNEL, at(hour), at(99)) is None:
                begun.append(begin_sync(session, CHANNEL, "incremental", host="here", pid=1, now=at(hour)))

        at_once(database, take, take, take, take)
        assert len(begun) == 1
        with database.write() as session:
            finish_sync(session, begun[0], "complete", seconds=1, error=None, now=at(hour))


def test_outcomes_of_the_last_syncs(database: Database, run: int) -> None:
    def add(hour: float, status: SyncStatus, channel: str = CHANNEL) -> None:
        run_id = begin(database, channel=channel, now=at(hour))
        with database.write() as session:
            finish_sync(session, run_id, status, seconds=1, error=None, now=at(hour + 0.5))

    def last() -> dict[str, LastSync]:
        with database.read() as session:
            return last_syncs(session)

    assert last() == {}
    for status in ("interrupted", "quota"):
        add(1, status)
    assert last() == {}
    add(2, "failed")
    add(3, "failed")
    add(3, "failed", "UCother")
    assert last() == {CHANNEL: LastSync(None, at(3.5), 2), "UCother": LastSync(None, at(3.5), 1)}
    for hour, done in ((4, "complete"), (5, "unchanged"), (6, "partial")):
        add(hour, done)  # type: ignore[arg-type]
        assert last()[CHANNEL] == LastSync(at(hour + 0.5), None, 0)
    add(7, "failed")
    add(8, "quota")
    assert last()[CHANNEL] == LastSync(at(6.5), at(7.5), 1)


@pytest.mark.parametrize(
    ("earlier", "refreshed_at", "expected"),
    [
        ([], None, 100),
        ([(1, "refresh", "quota")], None, 1),
        ([(1, "refresh", "quota"), (2, "refresh", "interrupted"), (3, "refresh", "failed")], None, 1),
        ([(1, "refresh", "quota"), (5, "refresh", "quota")], 3, 5),
        ([(1, "refresh", "quota")], 3, 100),
        ([(1, "incremental", "quota"), (2, "full", "failed")], None, 100),
        ([(1, "refresh", "complete"), (2, "refresh", "running")], None, 100),
        ([(-9, "refresh", "quota"), (4, "refresh", "quota")], None, 4),
    ],
)
def test_a_refresh_continues_the_first_stopped_refresh_since_the_last_complete_one(
    database: Database,
    run: int,
    earlier: list[tuple[int, SyncMode, SyncStatus]],
    refreshed_at: int | None,
    expected: int,
) -> None:
    with database.write() as session:
        for hour, mode, status in [*earlier, (2, "refresh", "quota")]:
            channel = "UCother" if (hour, mode, status) not in earlier else CHANNEL
            run_id = begin_sync(session, channel, mode, host="here", pid=1, now=at(hour))
            if status != "running":
                finish_sync(session, run_id, status, seconds=1, error=None, now=at(hour + 0.5))
        if refreshed_at is not None:
            mark_refreshed(session, CHANNEL, at(refreshed_at))
        assert refresh_began(session, CHANNEL, since=at(-5), now=at(100)) == at(expected)


@pytest.mark.processes
@pytest.mark.skipif(start_of(os.getpid()) is None, reason="starts are read from /proc")
def test_a_clock_put_forward_does_not_end_a_running_sync(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        begin(database, pid=process.pid, process_start=start_of(process.pid), now=at(-240))
        with database.write() as session:
            assert end_stale_syncs(session, CHANNEL, host="here", is_alive=is_alive, now=at(1)) == 0
        process.kill()
