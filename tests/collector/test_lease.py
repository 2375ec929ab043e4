"""Several processes on one store: which channels a process skips, and where a budget of units stops a sync."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

import collector.sync.lease
from collector.errors import BudgetSpent
from store.db import Database, open_database
from store.tables import Channel, SyncRun
from store.training import this_machine
from store.types import utc_now
from store.youtube import LEASE, begin_sync, finish_sync, quota_day, units_spent
from tests.collector.channels import channel, contents, hasty_http, later, sync, sync_runs, video
from tests.collector.test_sync_processes import start, wait_for_requests
from tests.collector.watching import Clock
from tests.standin import Fault, FaultKind, Faults, StandIn


def statuses(database: Database) -> list[str]:
    return [run.status for run in sync_runs(database)]


@pytest.mark.processes
async def test_a_channel_that_another_process_syncs_is_skipped(store_url: str) -> None:
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=60)
    database = open_database(store_url)
    with StandIn(channel(120), faults=Faults([hang])) as server:
        other = start(store_url, server, "@tests")
        await asyncio.to_thread(wait_for_requests, server, other, 10)
        spent = server.units
        for name in ("@tests", server.catalogues[0].channel_id):
            report = await sync(database, server, name, alone_since=utc_now())
            assert (report.status, report.exit_code, report.units, report.requests) == ("busy", 0, 0, 0)
        assert (server.units, statuses(database)) == (spent, ["running"])
        server.release()
        assert await asyncio.to_thread(other.wait, 60) == 0
        assert len(contents(database)) == 120
        # The channel is free, but another process has just synced it.
        assert (await sync(database, server, alone_since=utc_now() - timedelta(minutes=5))).status == "busy"
        assert (await sync(database, server, alone_since=utc_now())).status == "unchanged"
        other.communicate()
    assert statuses(database) == ["complete", "unchanged"]
    database.close()


@pytest.mark.processes
async def test_a_killed_process_holds_no_lease(sqlite_url: str) -> None:
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=60)
    database = open_database(sqlite_url)
    with StandIn(channel(120), faults=Faults([hang])) as server:
        other = start(sqlite_url, server, "@tests")
        await asyncio.to_thread(wait_for_requests, server, other, 10)
        other.send_signal(signal.SIGKILL)
        other.communicate()
        server.release()
        assert (await sync(database, server, alone_since=utc_now())).status == "complete"
    assert statuses(database) == ["interrupted", "complete"]
    database.close()


@pytest.mark.parametrize(
    ("host", "pid", "silent_minutes", "status"),
    [
        ("elsewhere", 1, 5, "busy"),
        ("elsewhere", 1, 11, "unchanged"),
        # For example, another container in which a process has the same number.
        (f"{socket.gethostname()} (00000000-1)", os.getpid(), 5, "busy"),
        (this_machine(), os.getppid(), 0, "busy"),
        (this_machine(), os.getppid(), 11, "unchanged"),
        (this_machine(), os.getpid(), 5, "unchanged"),  # a run that this process could not close
    ],
    # Without process numbers: each of several test processes must name its tests alike.
    ids=["elsewhere", "elsewhere-silent", "namesake", "here", "here-silent", "this-process"],
)
async def test_which_processes_hold_a_lease(
    database: Database, host: str, pid: int, silent_minutes: int, status: str
) -> None:
    async with StandIn(channel(3)) as server:
        await sync(database, server)
        with database.write() as session:
            run_id = begin_sync(
                session, server.catalogues[0].channel_id, "incremental", host=host, pid=pid, now=utc_now()
            )
            session.execute(
                update(SyncRun)
                .where(SyncRun.id == run_id)
                .values(seen_at=utc_now() - timedelta(minutes=silent_minutes))
            )
        assert (await sync(database, server, alone_since=utc_now())).status == status
        left = "running" if status == "busy" else "interrupted"
        assert statuses(database)[1] == left


@pytest.mark.processes
@pytest.mark.parametrize(
    ("began_days", "heard_minutes", "status"),
    [
        (0, 1, "unchanged"),
        # By the current clock, the process began after its run: the clock was put forward. It lives.
        (400, 0, "busy"),
    ],
    ids=["another", "clock-put-forward"],
)
async def test_a_reused_process_id_holds_no_lease(
    sqlite_database: Database, began_days: int, heard_minutes: int, status: str
) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)
        younger = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
        try:
            with sqlite_database.write() as session:
                run_id = begin_sync(
                    session,
                    server.catalogues[0].channel_id,
                    "incremental",
                    host=this_machine(),
                    pid=younger.pid,
                    now=utc_now() - timedelta(days=began_days),
                )
                heard_at = utc_now() - timedelta(minutes=heard_minutes)
                session.execute(update(SyncRun).where(SyncRun.id == run_id).values(seen_at=heard_at))
            assert (await sync(sqlite_database, server, alone_since=utc_now())).status == status
        finally:
            await younger.communicate(b"")


async def test_a_waiting_sync_sends_heartbeats(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector.sync.lease, "SIGN_OF_LIFE_S", 0.01)
    hang = Fault("hang", path="/youtube/v3/playlistItems", times=1, delay_s=60)
    async with StandIn(channel(3), faults=Faults([hang])) as server:
        task = asyncio.create_task(sync(sqlite_database, server))
        deadline = time.monotonic() + 30
        signs = set[datetime | None]()
        while len(signs) < 4:  # the first is from the start
            signs |= {run.seen_at for run in sync_runs(sqlite_database)}
            assert time.monotonic() < deadline
            await asyncio.sleep(0)
        server.release()
        assert (await task).status == "complete"


class _Jumping(asyncio.SelectorEventLoop):
    """An event loop whose clock is set by the test."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def test_a_heartbeat_comes_within_a_minute_and_keeps_the_lease(sqlite_database: Database) -> None:
    hang = Fault("hang", path="/youtube/v3/playlistItems", times=1, delay_s=60)
    clock = Clock(hours=24)

    async def until(happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not happened():
            assert time.monotonic() < deadline
            await asyncio.sleep(0)

    async def waiting(server: StandIn, loop: _Jumping) -> None:
        http = hasty_http(timeout_s=1e6)
        task = asyncio.create_task(sync(sqlite_database, server, now=clock.now, http=http))
        await until(lambda: server.faults.made["hang"])
        with sqlite_database.write() as session:  # this machine can't check whether its process lives
            session.execute(update(SyncRun).values(host="elsewhere"))
        clock.time += timedelta(minutes=1)
        loop.ahead_s += 60
        await until(lambda: sync_runs(sqlite_database)[0].seen_at == clock.time)
        clock.time += LEASE
        assert (await sync(sqlite_database, server, now=clock.now, alone_since=clock.time)).status == "busy"
        server.release()
        assert (await task).status == "complete"

    # The server has its own thread and event loop, with a real clock.
    with StandIn(channel(3), faults=Faults([hang])) as server, asyncio.Runner(loop_factory=_Jumping) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _Jumping)
        runner.run(waiting(server, loop))


async def test_the_lookup_of_a_busy_channel_is_counted(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)
        with sqlite_database.write() as session:
            session.execute(update(Channel).values(handle="@before"))  # so that YouTube must be queried
        report = await sync(sqlite_database, server, alone_since=utc_now() - timedelta(minutes=5))
        assert (report.status, report.units, server.units) == ("busy", 1, 3 + 1)
        with sqlite_database.read() as session:
            assert units_spent(session, quota_day(utc_now())) == server.units


@pytest.mark.slow
async def test_no_budget_is_exceeded_and_no_unit_is_spent_twice(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    async with StandIn(channel(120)) as server:
        for budget, spent in ((0, 0), (1, 1), (2, 3), (0, 3)):
            report = await sync(database, server, most_units=budget)
            assert (report.status, report.units, server.units) == ("quota", budget, spent)
            assert isinstance(report.error, BudgetSpent)
        report = await sync(database, server, most_units=4)
        assert (report.status, server.units) == ("complete", 7)
    assert len(contents(database)) == 120
    database.close()


@pytest.mark.slow
async def test_units_spent_by_other_processes_count(database: Database) -> None:
    """Two syncs at once that would need 25 units each; each has up to five calls in flight."""
    catalogues = channel(600), channel(0, name="other")
    catalogues[1].publish(*(video(number, id=f"other{number:06d}") for number in range(600)))
    async with StandIn(*catalogues) as server:
        budget: dict[str, Any] = {"most_units": 25, "units_a_day": 25}
        async with asyncio.TaskGroup() as group:
            syncs = [group.create_task(sync(database, server, name, **budget)) for name in ("@tests", "@other")]
        assert {task.result().status for task in syncs} <= {"quota", "complete"}
        assert 25 <= server.units <= 25 + 2 * 5


@pytest.mark.parametrize("kind", ["cut_json", "cut"])
async def test_invalid_responses_stay_within_the_budget(sqlite_database: Database, kind: FaultKind) -> None:
    """They are charged, and retried."""
    cut = Faults([Fault(kind, path="/youtube/v3/videos", times=4)])
    async with StandIn(channel(230)) as server:
        server.faults = cut
        report = await sync(sqlite_database, server, most_units=9)
        assert (report.status, report.units, server.units) == ("quota", 9, 9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "hang"])
async def test_missing_responses_stay_within_the_budget(sqlite_database: Database, kind: FaultKind) -> None:
    never = Faults([Fault(kind, path="/youtube/v3/", delay_s=60)], most_in_a_row=None)
    async with StandIn(channel(3), faults=never) as server:
        report = await sync(sqlite_database, server, most_units=2, http=hasty_http(timeout_s=0.5))
        assert (report.status, report.units) == ("quota", 2)
        assert server.units <= 2
        with sqlite_database.read() as session:
            assert units_spent(session, quota_day(utc_now())) == 2


async def test_with_a_spent_budget_free_work_is_done(sqlite_database: Database) -> None:
    async with StandIn(channel(50), faults=Faults([Fault("status", path="/vi", status=404)])) as server:
        await sync(sqlite_database, server)
        server.faults = Faults()
        report = await sync(sqlite_database, server, now=later(26), most_units=0)
        assert (report.status, report.units, report.pictures_fetched) == ("quota", 0, 50)


async def test_a_channel_is_not_skipped_after_a_failed_run(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server)
        with sqlite_database.write() as session:
            run_id = begin_sync(
                session, server.catalogues[0].channel_id, "incremental", host="elsewhere", pid=1, now=utc_now()
            )
            finish_sync(session, run_id, "failed", seconds=1, error="why", now=utc_now())
        since = sync_runs(sqlite_database)[0].finished_at
        assert (await sync(sqlite_database, server, alone_since=since)).status == "unchanged"
