"""A clock that was a month ahead and was corrected: nothing waits for a month."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from collector.watch import Retraining
from collector.watch.schedule import FIRST_PAUSE
from store.db import Database
from store.youtube import get_channel
from tests.collector.channels import channel, contents, failures, kinds, sync, sync_runs, video
from tests.collector.watching import EVERY, START, Clock, retrains, service, values
from tests.standin import Fault, Faults, StandIn

pytestmark = pytest.mark.slow

AHEAD = timedelta(days=30)


@pytest.fixture(autouse=True)
def _wide_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.watch.service.LONGEST_WAIT", timedelta(hours=1))


def on(moment: datetime) -> Callable[[], datetime]:
    return lambda: moment


async def test_a_future_sync_time_does_not_delay_the_schedule(database: Database) -> None:
    catalogue = channel(3)
    async with StandIn(catalogue) as server:
        await sync(database, server, now=on(START + AHEAD))
        catalogue.publish(video(50))
        await service(database, server, Clock(hours=24), "@tests").run()
    assert len(contents(database)) == 4
    assert 4 <= len(sync_runs(database)) - 1 <= 6


@pytest.mark.parametrize("ahead", [timedelta(hours=8), timedelta(days=3)])
async def test_the_schedule_continues_after_the_future_time_is_reached(
    sqlite_database: Database, ahead: timedelta
) -> None:
    async with StandIn(channel(3)) as server:
        await sync(sqlite_database, server, now=on(START + ahead))
        await service(sqlite_database, server, Clock(hours=ahead / timedelta(hours=1) + 72), "@tests").run()
    since = [run.started_at for run in sync_runs(sqlite_database) if run.started_at > START + ahead + EVERY]
    assert 72 / 6.6 - 3 <= len(since) <= 72 / 5.4


async def test_failures_are_followed_by_pauses_despite_future_times(sqlite_database: Database) -> None:
    async with StandIn(channel(3)) as server:
        server.faults = Faults([Fault("status", path="/youtube", status=500)], most_in_a_row=None)
        await sync(sqlite_database, server, "@tests", now=on(START + AHEAD))
        clock = Clock(hours=3)
        watch = service(sqlite_database, server, clock, "@tests")
        await watch.run()
        failed = values(watch.metrics, "thumbtune_syncs_total")
    assert list(failed) == [("@tests", "failed")]
    assert 2 <= sum(failed.values()) <= timedelta(hours=3) / FIRST_PAUSE


async def test_a_sync_with_a_future_time_does_not_block_the_channel(database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(database, server, now=on(START + AHEAD))
        report = await sync(database, server, now=on(START), alone_since=START - timedelta(hours=1))
    assert report.status == "complete"


async def test_unread_videos_are_read_despite_future_times(database: Database) -> None:
    async with StandIn(channel(120)) as server:
        stopped = await sync(database, server, now=on(START + AHEAD), most_units=4)
        assert stopped.status == "quota"
        assert ("unknown", "available") in kinds(database).values()
        assert (await sync(database, server, now=on(START))).status == "complete"
        # A video that was seen at a future time is read once more, and then never again.
        assert server.units <= 7 + 3
        assert (await sync(database, server, now=on(START + timedelta(hours=1)))).units == 0
    assert set(kinds(database).values()) == {("video", "available")}


async def test_due_thumbnails_are_fetched_despite_future_times(database: Database) -> None:
    async with StandIn(channel(60)) as server:
        server.faults = Faults(
            [Fault("status", path="/vi/video000001/", status=404), Fault("status", path="/vi/", status=403)],
            most_in_a_row=None,
        )
        await sync(database, server, now=on(START + AHEAD))
        assert len(failures(database)) == 60
        server.faults = Faults()
        report = await sync(database, server, now=on(START))
    assert (report.status, report.pictures_fetched) == ("complete", 60)


async def test_a_future_time_makes_no_video_known_to_the_listing(sqlite_database: Database) -> None:
    catalogue = channel(60)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server, now=on(START + AHEAD))
        report = await sync(sqlite_database, server, now=on(START))
        assert report.listed == 60
        with sqlite_database.read() as session:
            assert get_channel(session, catalogue.channel_id).listed_at == START
        assert (await sync(sqlite_database, server, now=on(START + timedelta(hours=1)))).status == "unchanged"
        # Without the feed, only the first page is listed again: the rest is known.
        server.feed_lag = 60
        assert (await sync(sqlite_database, server, now=on(START + timedelta(hours=25)))).listed == 50


@pytest.mark.processes
async def test_a_future_time_does_not_delay_retraining(sqlite_database: Database) -> None:
    catalogue = channel(3)
    async with StandIn(catalogue) as server:
        clock = Clock(hours=2 * 24 * 30)
        retraining = Retraining([sys.executable, "-c", ""], os.environ)
        watch = service(sqlite_database, server, clock, "@tests", retraining=retraining)
        clock.waits_for = lambda: watch._child is not None and watch._child.running

        def put_ahead() -> None:
            clock.time += AHEAD
            catalogue.publish(video(50))

        def put_right() -> None:
            clock.time -= AHEAD
            clock.end = clock.time + 4 * EVERY
            catalogue.publish(video(51))

        clock.at += [(START + EVERY / 2, put_ahead), (START + AHEAD + 2 * EVERY, put_right)]
        await watch.run()
    assert len(contents(sqlite_database)) == 5
    assert retrains(watch.metrics) == {"0": 3.0}
