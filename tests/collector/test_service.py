"""The service over simulated days: the schedule, independent channels, and the day's units."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import select, text, update

from collector.http import Http
from collector.watch import Retraining
from collector.watch.schedule import FIRST_PAUSE, JITTER
from store.db import Database, open_database
from store.tables import QuotaDay, SyncRun
from store.youtube import add_units, begin_sync, channel_ids, finish_sync, fresh_since, next_quota_day
from store.youtube import clock as store_clock
from tests.collector.channels import channel, contents, hasty_http, sync, sync_runs, video
from tests.collector.watching import EVERY, START, Clock, gaps, retrains, service, values
from tests.standin import Fault, Faults, StandIn
from tests.store.observations import add_channel
from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.resources import channel_resource

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _wide_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests faster without changing results.

    The store is read every ten minutes of the simulated days instead of every minute, and batches of thumbnails are
    written almost at once.
    """
    monkeypatch.setattr("collector.watch.service.LONGEST_WAIT", timedelta(minutes=10))
    monkeypatch.setattr("collector.sync.batches.LONGEST_UNWRITTEN_S", 0.01)


def two() -> tuple[Catalogue, Catalogue]:
    first, second = channel(3), channel(0, name="other")
    second.publish(*(video(number, id=f"other{number:06d}") for number in range(3)))
    return first, second


def runs_of(database: Database, catalogue: Catalogue) -> list[SyncRun]:
    return [run for run in sync_runs(database) if run.channel_id == catalogue.channel_id]


async def test_each_channel_is_synced_once_per_interval(database: Database) -> None:
    first, second = two()
    async with StandIn(first, second) as server:
        watch = service(database, server, Clock(hours=24), "@tests", "@other", "@TESTS")
        await watch.run()
        assert server.units == 2 * 3
    for catalogue in (first, second):
        runs = runs_of(database, catalogue)
        assert [run.status for run in runs] == ["complete"] + ["unchanged"] * (len(runs) - 1)
        assert 4 <= len(runs) <= 5
        for gap in gaps([run.started_at for run in runs]):
            assert EVERY * (1 - JITTER) <= gap <= EVERY * (1 + JITTER) + timedelta(seconds=1)
    assert len(contents(database)) == 6
    synced = values(watch.metrics, "thumbtune_syncs_total")
    assert synced[first.channel_id, "complete"] == 1
    assert {status for _, status in synced} == {"complete", "unchanged"}, "no other process syncs"
    assert values(watch.metrics, "thumbtune_pictures_total")[first.channel_id, "fetched"] == 3
    # The first sync could not know the channel's id yet.
    assert sum(values(watch.metrics, "thumbtune_units_total").values()) == 6
    assert values(watch.metrics, "thumbtune_units_today")[()] == 0  # a new day, Pacific time


async def test_a_restart_continues_the_schedule(sqlite_database: Database) -> None:
    async with StandIn(*two()) as server:
        await service(sqlite_database, server, Clock(hours=1), "@tests", "@other").run()
        server.journal.clear()
        clock = Clock(hours=5)
        clock.time += timedelta(hours=1)
        watch = service(sqlite_database, server, clock, "@tests", "@other")
        await watch.run()
        assert server.journal.count() == 0
        since = values(watch.metrics, "thumbtune_last_success_timestamp_seconds")
        assert list(since.values()) == [START.timestamp()] * 2


async def test_without_names_all_channels_are_synced_including_new_channels(sqlite_database: Database) -> None:
    first, second = two()
    async with StandIn(first, second) as server:
        await sync(sqlite_database, server, "@tests", now=lambda: START - timedelta(days=1))
        clock = Clock(hours=12)
        later = START + timedelta(hours=9)

        def add() -> None:
            """What `thumbtune sync @other` does first, in another process."""
            with sqlite_database.write() as session:
                add_channel(session, second.channel_id, now=clock.time)

        clock.at.append((later, add))
        await service(sqlite_database, server, clock).run()
        with sqlite_database.read() as session:
            assert channel_ids(session) == [first.channel_id, second.channel_id]
    assert later <= runs_of(sqlite_database, second)[0].started_at <= later + timedelta(minutes=11)
    assert len(contents(sqlite_database)) == 6


async def test_failures_of_a_channel_do_not_affect_others(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    first, second = two()
    playlist = {"playlistId": "UU" + first.channel_id[2:]}
    down = Fault("status", path="/youtube/v3/playlistItems", query=playlist, status=500)
    async with StandIn(first, second, faults=Faults([down], most_in_a_row=None)) as server:
        clock = Clock(hours=24)
        watch = service(database, server, clock, "@tests", "@other", "@nobody-at-all")
        clock.at.append((START + timedelta(hours=12), lambda: setattr(server, "faults", Faults())))
        await watch.run()
    runs = runs_of(database, first)
    failed = [run.started_at for run in runs if run.status == "failed"]
    pauses = [FIRST_PAUSE * 2**number for number in range(len(failed) - 1)]
    assert len(failed) >= 6
    for gap, pause in zip(gaps(failed), pauses, strict=True):
        assert pause * (1 - JITTER) <= gap <= min(EVERY, pause) * (1 + JITTER) + timedelta(seconds=1)
    assert [run.status for run in runs[len(failed) :]][:2] == ["complete", "unchanged"]
    assert [run.status for run in runs_of(database, second)][:4] == ["complete", *["unchanged"] * 3]
    failures = values(watch.metrics, "thumbtune_failures_total")
    assert failures[first.channel_id,] == len(failed)
    assert failures[second.channel_id,] == 0
    # The channel has no row in the store, but the pauses still grow.
    assert 6 <= failures["@nobody-at-all",] <= 10
    assert "YouTube has no channel @nobody-at-all" in caplog.text


async def test_a_bug_in_one_sync_ends_neither_the_service_nor_the_schedule(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    made = 0

    def http() -> Http:
        nonlocal made
        made += 1
        if made <= 2:
            raise ZeroDivisionError("a bug")
        return hasty_http()

    async with StandIn(channel(3)) as server:
        watch = service(sqlite_database, server, Clock(hours=1), "@tests", http=http)
        await watch.run()
    assert [run.status for run in sync_runs(sqlite_database)] == ["complete"]
    assert sync_runs(sqlite_database)[0].started_at - START >= 3 * FIRST_PAUSE * (1 - JITTER)
    assert values(watch.metrics, "thumbtune_failures_total") == {("@tests",): 2.0, (runs_id(sqlite_database),): 0.0}
    broke = [record for record in caplog.records if "the sync failed: a bug" in record.getMessage()]
    assert len(broke) == 2
    assert all(record.exc_info for record in broke)


def runs_id(database: Database) -> str:
    return sync_runs(database)[0].channel_id


async def test_the_service_waits_for_a_failing_store(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    def rename(old: str, new: str) -> None:
        with database.write() as session:
            session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))

    async with StandIn(channel(3)) as server:
        clock = Clock(hours=13)
        clock.at += [
            (START + timedelta(hours=1), lambda: rename("sync_run", "away")),
            (START + timedelta(hours=8), lambda: rename("away", "sync_run")),
        ]
        watch = service(database, server, clock, "@tests")
        await watch.run()
    assert [run.status for run in sync_runs(database)] == ["complete", "unchanged"]
    assert values(watch.metrics, "thumbtune_store_errors_total")[()] == pytest.approx(42, abs=2)
    assert "the schedule can't be read" in caplog.text


async def test_daily_units_are_never_exceeded_and_syncs_continue_the_next_day(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with StandIn(channel(120)) as server:
        with database.write() as session:  # another process with this key, and a process with another key
            add_units(session, fingerprint(server), 1, START)
            add_units(session, "another key", 8000, START)
        clock = Clock(hours=24)
        watch = service(database, server, clock, "@tests", units=4)
        today: list[float] = []
        clock.at.append(
            (START + timedelta(hours=2), lambda: today.append(values(watch.metrics, "thumbtune_units_today")[()]))
        )
        await watch.run()
        assert server.units == 7
        assert today == [4.0]
    with database.read() as session:
        days = session.scalars(
            select(QuotaDay.units).where(QuotaDay.key_fingerprint == fingerprint(server)).order_by(QuotaDay.day)
        ).all()
    assert list(days) == [4, 4]
    runs = sync_runs(database)
    assert [run.status for run in runs[:2]] == ["quota", "complete"]
    midnight = next_quota_day(START)
    assert midnight <= runs[1].started_at <= midnight + timedelta(seconds=1)
    told = [record for record in caplog.records if "until" in vars(record)]
    assert vars(told[0])["until"] == midnight.isoformat()
    assert "4 daily units" in told[0].getMessage()
    assert len(contents(database)) == 120


def fingerprint(server: StandIn) -> str:
    from collector.settings import settings_from  # noqa: PLC0415

    return settings_from(server.environment()).key_fingerprint


async def test_a_channel_is_refreshed_when_its_data_is_too_old_also_after_a_restart(database: Database) -> None:
    async with StandIn(*two()) as server:
        for hours in range(0, 72, 24):
            clock = Clock(hours=24 + hours)
            clock.time += timedelta(hours=hours)
            await service(database, server, clock, "@tests", "@other", refresh_every=timedelta(days=1)).run()
    for catalogue in server.catalogues:
        runs = runs_of(database, catalogue)
        assert {run.status for run in runs} <= {"complete", "unchanged"}
        assert runs[0].mode == "incremental", "details that were just read are fresh"
        began = [runs[0].started_at, *(run.started_at for run in runs if run.mode == "refresh")]
        # At the first turn after a day.
        assert len(began) == 3
        for gap in gaps(began):
            assert timedelta(days=1) <= gap <= timedelta(days=1) + EVERY * (1 + JITTER) + timedelta(minutes=11)
        with database.read() as session:
            assert fresh_since(session)[catalogue.channel_id] == began[-1]


async def test_a_refresh_over_several_days_reads_no_video_twice(database: Database) -> None:
    async with StandIn(channel(300)) as server:
        await sync(database, server, now=lambda: START - timedelta(days=11))
        server.journal.clear()
        clock = Clock(hours=60)
        await service(database, server, clock, "@tests", units=4, refresh_every=timedelta(days=10)).run()
        assert server.journal.count("videos") == 6
    runs = [run for run in sync_runs(database) if run.mode == "refresh"]
    # Each time 1 unit for the channel, 1 for the first page, and 1 for each 50 videos.
    assert [(run.status, run.units) for run in runs] == [("quota", 4), ("quota", 4), ("complete", 2)]
    with database.read() as session:
        assert list(fresh_since(session).values()) == [runs[0].started_at]


async def test_after_a_spent_quota_the_service_waits_until_midnight_pacific_time(sqlite_database: Database) -> None:
    async with StandIn(channel(120), daily_limit=3) as server:
        clock = Clock(hours=30)
        watch = service(sqlite_database, server, clock, "@tests")
        paused: list[float] = []
        clock.at.append(
            (START + timedelta(hours=2), lambda: paused.append(values(watch.metrics, "thumbtune_quota_paused")[()]))
        )
        clock.at.append((next_quota_day(START), lambda: setattr(server.quota, "limit", None)))
        await watch.run()
        assert server.units == 7 + 1  # one day later: the owner of the handle
    runs = sync_runs(sqlite_database)
    assert [run.status for run in runs[:2]] == ["quota", "complete"]
    assert runs[1].started_at >= next_quota_day(START)
    assert (paused, values(watch.metrics, "thumbtune_quota_paused")[()]) == ([1.0], 0.0)
    assert values(watch.metrics, "thumbtune_syncs_total")[runs[0].channel_id, "quota"] == 1
    assert set(values(watch.metrics, "thumbtune_failures_total").values()) == {0.0}, "not a failure"


async def test_a_quota_spent_at_the_end_of_a_day_does_not_pause_the_next_day(sqlite_database: Database) -> None:
    midnight = next_quota_day(START)
    async with StandIn(channel(120), daily_limit=3) as server:
        clock = Clock(hours=30)
        clock.time = midnight - timedelta(seconds=1)

        def http() -> Http:
            """The first sync ends on the day after its start."""
            if clock.time >= midnight:
                server.quota.limit = None
            clock.time = max(clock.time, midnight + timedelta(seconds=1))
            return hasty_http()

        await service(sqlite_database, server, clock, "@tests", http=http).run()
    runs = sync_runs(sqlite_database)
    assert [run.status for run in runs[:2]] == ["quota", "complete"]
    assert runs[1].started_at < midnight + timedelta(hours=1)


async def test_the_budgets_day_is_that_of_pacific_time(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        with sqlite_database.write() as session:
            add_units(session, fingerprint(server), 4, START)
        clock = Clock(hours=15)
        clock.time = START + timedelta(hours=13)  # the next day in London, the same in California
        watch = service(sqlite_database, server, clock, "@tests", units=4)
        await watch.run()
        assert server.journal.count() == 0
    assert values(watch.metrics, "thumbtune_units_today")[()] == 4
    assert values(watch.metrics, "thumbtune_quota_paused")[()] == 1


async def test_results_of_syncs_are_counted_in_the_metrics(sqlite_database: Database) -> None:
    """The first sync raises an error; the second fetches two of three thumbnails."""
    missing = Fault("status", path="/vi/video000001/", status=404)
    made = 0

    def http() -> Http:
        nonlocal made
        made += 1
        if made == 1:
            raise ZeroDivisionError("a bug")
        return hasty_http()

    async with StandIn(channel(3), faults=Faults([missing], most_in_a_row=None)) as server:
        watch = service(sqlite_database, server, Clock(hours=1), "@tests", http=http)
        await watch.run()
    (run,) = sync_runs(sqlite_database)
    assert values(watch.metrics, "thumbtune_pictures_total") == {
        (run.channel_id, "fetched"): 2.0,
        (run.channel_id, "unchanged"): 0.0,
        (run.channel_id, "failed"): 1.0,
    }
    assert values(watch.metrics, "thumbtune_syncs_total") == {
        ("@tests", "failed"): 1.0,
        (run.channel_id, "partial"): 1.0,
    }
    assert values(watch.metrics, "thumbtune_sync_seconds_sum") == {(run.channel_id,): pytest.approx(run.seconds)}


async def test_a_channel_that_another_process_syncs_is_skipped(database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(database, server, now=lambda: START - timedelta(days=1))
        channel_id = server.catalogues[0].channel_id
        with database.write() as session:
            other = begin_sync(session, channel_id, "incremental", host="elsewhere", pid=1, now=START)

        clock = Clock(hours=2)

        def alive() -> None:
            with database.write() as session:
                session.execute(
                    update(SyncRun).where(SyncRun.id == other).values(seen_at=store_clock(session, clock.time))
                )

        def done() -> None:
            with database.write() as session:
                finish_sync(session, other, "complete", seconds=1, error=None, now=clock.time)

        clock.at += [(START + timedelta(minutes=minute), alive) for minute in range(1, 60)]
        clock.at.append((START + timedelta(minutes=60), done))
        watch = service(database, server, clock)
        server.journal.clear()
        await watch.run()
        assert server.journal.count() == 0
    assert [run.status for run in sync_runs(database)] == ["complete", "complete"]
    busy = values(watch.metrics, "thumbtune_syncs_total")[channel_id, "busy"]
    assert 11 <= busy <= 13, "every five minutes"


async def test_overlapping_syncs_do_not_block_the_schedule(database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(database, server, now=lambda: START - timedelta(hours=20))
        channel_id = server.catalogues[0].channel_id
        long, short = timedelta(hours=6), timedelta(hours=5, minutes=30)
        for begun in (long, short):
            with database.write() as session:
                begin_sync(session, channel_id, "incremental", host="elsewhere", pid=1, now=START - begun)
        *_, first, second = sync_runs(database)
        for run, ended in ((second, timedelta(hours=5, minutes=20)), (first, timedelta(hours=5))):
            with database.write() as session:
                finish_sync(session, run.id, "complete", seconds=1.0, error=None, now=START - ended)
        await service(database, server, Clock(hours=72)).run()
    assert 10 <= sum(run.started_at > START for run in sync_runs(database)) <= 14


async def test_a_sync_committed_while_the_schedule_is_read_is_not_repeated(
    sqlite_database: Database,
) -> None:
    """By the clock it ended before the plan was made; its row was committed afterwards."""
    clock = Clock(hours=2)
    came: list[int] = []

    def http() -> Http:
        if not came:
            with sqlite_database.write() as session:
                channel_id, ended = runs_id(sqlite_database), clock.time - timedelta(seconds=1)
                came.append(begin_sync(session, channel_id, "incremental", host="elsewhere", pid=1, now=ended))
                finish_sync(session, came[0], "complete", seconds=1, error=None, now=ended)
        return hasty_http()

    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server, now=lambda: START - timedelta(hours=20))
        server.journal.clear()
        await service(sqlite_database, server, clock, "@tests", http=http).run()
        assert server.journal.count() == 0
    assert [run.id for run in sync_runs(sqlite_database)][1:] == came


async def test_a_success_of_another_process_ends_the_pauses_after_failures(sqlite_database: Database) -> None:
    during = START + timedelta(minutes=8)

    def http() -> Http:
        if clock.time < during:
            raise ZeroDivisionError("a bug")
        return hasty_http()

    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server, now=lambda: START - timedelta(days=1))
        clock = Clock(hours=12)

        def another() -> None:
            with sqlite_database.write() as session:
                run = begin_sync(
                    session, runs_id(sqlite_database), "incremental", host="elsewhere", pid=1, now=clock.time
                )
                finish_sync(session, run, "complete", seconds=1, error=None, now=clock.time)

        clock.at.append((during, another))
        await service(sqlite_database, server, clock, "@tests", http=http).run()
    _, other, mine, *_ = sync_runs(sqlite_database)
    assert mine.started_at - other.started_at >= EVERY * (1 - JITTER)


async def test_a_dead_process_on_another_machine_does_not_block_a_channel(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server, now=lambda: START - timedelta(hours=12))
        with sqlite_database.write() as session:
            begin_sync(session, server.catalogues[0].channel_id, "incremental", host="elsewhere", pid=1, now=START)
        await service(sqlite_database, server, Clock(hours=1)).run()
    runs = sync_runs(sqlite_database)
    assert [run.status for run in runs] == ["complete", "interrupted", "unchanged"]
    assert runs[2].started_at <= START + timedelta(minutes=17)


@pytest.mark.processes
async def test_retraining_starts_only_after_new_data(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    catalogue = channel(3)
    says = "import os; print('secret:', os.environ.get('A')); print('leads:', os.getsid(0) == os.getpid())"
    command = [sys.executable, "-c", says]
    async with StandIn(catalogue) as server:
        clock = Clock(hours=48)
        watch = service(
            sqlite_database, server, clock, "@tests", retraining=Retraining(command, {**os.environ, "A": "b"})
        )
        seen: set[tuple[bool, float]] = set()

        def running() -> bool:
            runs = watch._child is not None and watch._child.running
            seen.add((runs, values(watch.metrics, "thumbtune_retraining")[()]))
            return runs

        clock.waits_for = running
        clock.at.append((START + timedelta(hours=20), lambda: catalogue.publish(video(3))))
        await watch.run()
        assert retrains(watch.metrics) == {"0": 2.0}
        assert seen == {(True, 1.0), (False, 0.0)}
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("retraining: secret: b") == 2
    assert messages.count("retraining: leads: True") == 2, "the child does not get Ctrl-C"


async def test_retraining_starts_at_most_once_per_interval(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = two()
    began: list[datetime] = []
    async with StandIn(first, second) as server:
        clock = Clock(hours=14)
        retraining = Retraining(["true"], os.environ)
        watch = service(sqlite_database, server, clock, "@tests", "@other", retraining=retraining)

        def running() -> bool:
            if caplog.text.count("retraining has started") > len(began):
                began.append(clock.time)
            return watch._child is not None and watch._child.running

        clock.waits_for = running
        for number in range(10, 38):
            moment = START + timedelta(minutes=30 * (number - 10) + 1)
            clock.at.append((moment, partial(first.publish, video(number, id=f"first{number:06d}"))))
            clock.at.append((moment, partial(second.publish, video(number, id=f"other{number:06d}"))))
        await watch.run()
    assert len(began) >= 3
    assert all(gap >= EVERY * (1 - JITTER) for gap in gaps(began))


async def test_retraining_starts_even_if_a_channel_is_always_due(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Each sync takes longer than an interval, so that the other channel is due when it ends."""
    caplog.set_level(logging.INFO)
    first, second = two()
    stop, clock, syncs_before = asyncio.Event(), Clock(hours=1_000), 0

    def http() -> Http:
        nonlocal syncs_before
        clock.time += EVERY * 2
        if "retraining has started" in caplog.text or syncs_before == 20:
            stop.set()
        else:
            syncs_before += 1
        return hasty_http()

    async with StandIn(first, second) as server:
        retraining = Retraining(["true"], os.environ)
        watch = service(sqlite_database, server, clock, "@tests", "@other", retraining=retraining, http=http, stop=stop)
        await watch.run()
    assert 1 <= syncs_before <= 2


@pytest.mark.processes
async def test_the_output_of_a_retraining_is_logged(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Bytes that are not UTF-8, and a line that is too long."""
    caplog.set_level(logging.INFO)
    says = "import os; os.write(1, b'odd \\xff\\n' + b'x' * 100_000 + b'\\nafter\\n')"
    async with StandIn(channel(3)) as server:
        clock = Clock(hours=1)
        retraining = Retraining([sys.executable, "-c", says], os.environ)
        watch = service(sqlite_database, server, clock, "@tests", retraining=retraining)
        clock.waits_for = lambda: watch._child is not None and watch._child.running
        await watch.run()
    messages = [record.getMessage() for record in caplog.records]
    told = [message.removeprefix("retraining: ") for message in messages if message.startswith("retraining: ")]
    assert (told[0], told[-1]) == ("odd \ufffd", "after")
    assert "".join(told[1:-1]) == "x" * 100_000
    assert max(map(len, told)) < 40_000


@pytest.mark.processes
async def test_a_failed_retraining_is_retried_after_an_interval(
    sqlite_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with StandIn(channel(3)) as server:
        clock = Clock(hours=24)
        retraining = Retraining([sys.executable, "-c", "raise SystemExit(3)"], os.environ)
        watch = service(sqlite_database, server, clock, "@tests", retraining=retraining)
        clock.waits_for = lambda: watch._child is not None and watch._child.running
        await watch.run()
    (tries,) = retrains(watch.metrics).values()
    assert 4 <= tries <= 5
    ended = next(record for record in caplog.records if "ended with code 3" in record.getMessage())
    assert ended.__dict__["exit_code"] == 3


async def test_an_unknown_name_is_looked_up_once(sqlite_database: Database) -> None:
    """The store has no row for an old user name."""
    first, second = two()
    async with StandIn(first, second) as server:
        answer = {"kind": "youtube#channelListResponse", "items": [channel_resource(first, server.url)]}
        server.faults = Faults(
            [
                Fault(
                    "body",
                    path="/youtube/v3/channels",
                    query={"forUsername": "oldname"},
                    body=json.dumps(answer).encode(),
                    content_type="application/json",
                )
            ],
            most_in_a_row=None,
        )
        await service(sqlite_database, server, Clock(hours=24), "https://www.youtube.com/user/oldname", "@other").run()
        assert server.journal.count("channels") == 2
    for catalogue in (first, second):
        assert 4 <= len(runs_of(sqlite_database, catalogue)) <= 5


@pytest.mark.processes
async def test_a_hanging_retraining_is_killed_with_the_service(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("collector.watch.child.GRACE_S", 0.1)
    caplog.set_level(logging.INFO)
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    async with StandIn(channel(3)) as server:
        clock = Clock(hours=1)
        retraining = Retraining([sys.executable, "-c", stubborn], os.environ)
        watch = service(sqlite_database, server, clock, "@tests", retraining=retraining)
        clock.waits_for = lambda: "retraining: deaf" not in caplog.text
        await watch.run()
    assert retrains(watch.metrics) == {"-9": 1.0}
    assert "is killed" in caplog.text


async def test_a_retraining_that_cannot_be_started_is_counted(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        retraining = Retraining(["/no/such/program"], {})
        watch = service(sqlite_database, server, Clock(hours=1), "@tests", retraining=retraining)
        await watch.run()
    assert retrains(watch.metrics) == {"127": 1.0}


async def test_stop_ends_the_current_sync(sqlite_url: str) -> None:
    database = open_database(sqlite_url)
    hang = Fault("hang", path="/youtube/v3/playlistItems", after=1, times=1, delay_s=60)
    async with StandIn(channel(120), faults=Faults([hang])) as server:
        stop = asyncio.Event()
        watch = service(database, server, Clock(hours=1), "@tests", stop=stop)
        task = asyncio.create_task(watch.run())
        deadline = time.monotonic() + 30
        while server.faults.made["hang"] == 0 or not contents(database):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.wait_for(task, 30)
        server.release()
    assert [run.status for run in sync_runs(database)] == ["interrupted"]
    database.close()
