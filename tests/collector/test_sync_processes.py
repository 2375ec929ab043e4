"""Real processes: a killed sync, and two concurrent syncs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.reliability_kills import kill_sync
from bench.reliability_lab import Shell, problems, read_store, sqlite_url
from bench.reliability_lab import channel as reliability_channel
from bench.reliability_lab import contents as everything
from bench.reliability_processes import sync_at_once
from store.db import Database, open_database
from tests import forked
from tests.collector.channels import channel, contents, sync, sync_runs
from tests.standin import Fault, Faults, StandIn

pytestmark = pytest.mark.processes

COUNT = 230


def start(url: str, server: StandIn, *arguments: str) -> subprocess.Popen[str]:
    return forked.Popen(
        [*forked.THUMBTUNE, "--db", url, "sync", *arguments],
        env={**os.environ, **server.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_requests(server: StandIn, process: subprocess.Popen[str], count: int) -> None:
    """Wait until the process has made this many requests, or has ended."""
    wait_until(lambda: server.journal.count() >= count or process.poll() is not None)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """The content of a store after an undisturbed sync."""

    async def clean() -> dict[str, tuple[object, ...]]:
        database = open_database(f"sqlite:///{tmp_path_factory.mktemp('clean') / 'clean.db'}")
        async with StandIn(channel(COUNT)) as server:
            await sync(database, server)
        found = contents(database)
        database.close()
        return found

    return asyncio.run(clean())


def check_sound(database: Database) -> None:
    if not database.is_sqlite:
        return
    with database.read() as session:
        connection = session.connection()
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall() == []


@pytest.mark.parametrize("requests", [1, 3, 6, 20, 60, 130, 200])
def test_a_killed_sync_is_completed_by_the_next(
    sqlite_url: str, wanted: dict[str, tuple[object, ...]], requests: int
) -> None:
    with StandIn(channel(COUNT)) as server:
        first = start(sqlite_url, server, "@tests")
        wait_for_requests(server, first, requests)
        first.kill()
        first.communicate()
        assert first.returncode == -signal.SIGKILL
        opened = open_database(sqlite_url)
        check_sound(opened)
        kept = sum(1 for row in contents(opened).values() if row[4] is not None)
        server.journal.clear()
        second = start(sqlite_url, server, "@tests")
        output, errors = second.communicate(timeout=120)
        assert second.returncode == 0, output + errors
        assert contents(opened) == wanted
        assert server.journal.count("picture") == COUNT - kept
        statuses = [run.status for run in sync_runs(opened)]
        assert statuses in (["complete"], ["interrupted", "complete"])
        check_sound(opened)
        opened.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_sync_cleanly(sqlite_url: str, number: signal.Signals) -> None:
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=2, times=1, delay_s=60)
    with StandIn(channel(COUNT), faults=Faults([hang])) as server:
        process = start(sqlite_url, server, "@tests")
        wait_for_requests(server, process, 20)
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
        server.release()
    assert process.returncode == 3, output + errors
    assert "interrupted; everything so far is kept" in errors
    assert "Traceback" not in errors
    opened = open_database(sqlite_url)
    assert [run.status for run in sync_runs(opened)] == ["interrupted"]
    check_sound(opened)
    opened.close()


def test_two_concurrent_processes_neither_fail_nor_duplicate(
    store_url: str, wanted: dict[str, tuple[object, ...]]
) -> None:
    open_database(store_url).close()
    # Both have asked which channel it is before either gets its answer: the second must not find all done.
    hang = Fault("hang", path="/youtube/v3/channels", times=2, delay_s=60)
    with StandIn(channel(COUNT), faults=Faults([hang])) as server:
        both = [start(store_url, server, "@tests") for _ in range(2)]
        wait_until(lambda: server.units == 2)
        server.release()
        for process in both:
            output, errors = process.communicate(timeout=180)
            assert process.returncode == 0, output + errors
        assert server.units <= 2 * (1 + 2 * 5)
    opened = open_database(store_url)
    assert contents(opened) == wanted
    assert [run.status for run in sync_runs(opened)] == ["complete", "complete"]
    assert sum(run.new for run in sync_runs(opened)) == COUNT
    opened.close()


def test_two_concurrent_refreshes_create_each_version_once(store_url: str) -> None:
    catalogue = channel(120)
    opened = open_database(store_url)
    with StandIn(catalogue) as server:
        asyncio.run(sync(opened, server))
        for video_id in list(catalogue.videos):
            catalogue.change(video_id, title=f"New title of {video_id}")
        both = [start(store_url, server, "@tests", "--refresh") for _ in range(2)]
        for process in both:
            output, errors = process.communicate(timeout=180)
            assert process.returncode == 0, output + errors
    history = [row[-1] for row in contents(opened).values()]
    assert all([number for number, _, _ in versions] == [1, 2] for versions in history)
    assert sum(run.changed for run in sync_runs(opened)) == 120
    opened.close()


def test_four_processes_store_the_same_as_one(store_url: str, tmp_path: Path) -> None:
    channels = [reliability_channel(12, f"{number}-busy") for number in range(10)]
    handles = [one.handle for one in channels]
    with StandIn(*channels) as server:
        assert Shell.of(sqlite_url(tmp_path, "alone"), server).run("sync", *handles).code == 0
        assert sync_at_once(Shell.of(store_url, server), handles) == []
    assert read_store(store_url, everything) == read_store(sqlite_url(tmp_path, "alone"), everything)
    assert read_store(store_url, problems) == []


@pytest.mark.parametrize("requests", [5, 30, 55])
def test_data_committed_by_a_killed_sync_is_not_fetched_again(tmp_path: Path, requests: int) -> None:
    with StandIn(reliability_channel(60)) as server:
        Shell.of(sqlite_url(tmp_path, "clean"), server).run("sync", "@reliable")
        wanted: dict[str, object] = dict(read_store(sqlite_url(tmp_path, "clean"), everything))
        found = kill_sync(Shell.of(sqlite_url(tmp_path, "killed"), server), server, requests, wanted)
    assert found.problems == []
