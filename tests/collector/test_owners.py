"""Channels of several owners: each is read with its owner's key only, and owners don't wait for each other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from collector.errors import MissingKey
from collector.settings import Settings, settings_from
from collector.sync import add_channels, sync_channels
from collector.watch import Rhythm, Service, WatchOptions
from collector.youtube import parse_channel_name
from store.db import Database, open_database
from store.tables import QuotaDay, SyncRun
from store.youtube import units_by_key
from tests.collector.channels import channel, contents, hasty_http, sync_runs, video
from tests.collector.watching import EVERY, START, Clock, values
from tests.standin import Fault, Faults, StandIn
from thumbtune.standin.catalogue import Catalogue


@pytest.fixture(autouse=True)
def _wide_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the computation and the waiting, as in test_service."""
    monkeypatch.setattr("collector.watch.service.LONGEST_WAIT", timedelta(minutes=30))
    monkeypatch.setattr("collector.sync.batches.LONGEST_UNWRITTEN_S", 0.01)


def small(name: str, videos: int = 2) -> Catalogue:
    made = channel(0, name=name)
    made.publish(*(video(number, id=f"{name[:5]:_<5}{number:06d}") for number in range(videos)))
    return made


def owned(server: StandIn, keys: dict[str, str], default: str = "") -> Settings:
    return replace(settings_from(server.environment("unused")), key=default, keys=keys)


def fingerprint(key: str) -> str:
    return Settings(key).key_fingerprint


@pytest.mark.slow
async def test_a_channel_uses_only_the_key_of_its_owner(sqlite_database: Database) -> None:
    large, first, second = small("large", 120), small("first"), small("second")
    keys = {large.channel_id: "key-a", first.channel_id: "key-b", second.channel_id: "key-b"}
    async with StandIn(large, first, second, keys={"key-a", "key-b"}, daily_limit=6) as server:
        settings = owned(server, keys)
        ids = [parse_channel_name(name) for name in keys]
        reports = await sync_channels(sqlite_database, ids, settings, http=hasty_http())
        assert [report.status for report in reports] == ["quota", "complete", "complete"]
        assert (server.quota.used("key-a"), server.quota.used("key-b")) == (6, 6)
        # The store knows it now, so its handle is enough; the spent key is not replaced by another owner's.
        again = [parse_channel_name(name) for name in ("@large", "@first", "@unknown")]
        reports = await sync_channels(sqlite_database, again, settings, http=hasty_http())
        assert [report.status for report in reports] == ["quota", "unchanged", "failed"]
        assert isinstance(reports[-1].error, MissingKey)
        assert server.units == 12
    with sqlite_database.read() as session:
        days = session.scalars(select(QuotaDay.day)).all()
        assert units_by_key(session, days[0]) == {fingerprint("key-a"): 6, fingerprint("key-b"): 6}
    assert sum(report.units for report in reports) == 0


async def test_channels_are_added_with_their_owners_keys(sqlite_database: Database) -> None:
    first, other = small("first"), small("other")
    async with StandIn(first, other) as server:
        settings = owned(server, {first.channel_id: "key-a"}, default="default")
        names = [parse_channel_name(name) for name in (first.channel_id, other.channel_id, "@other", "@nobody")]
        found = await add_channels(sqlite_database, names, settings)
        assert found[:3] == [first.channel_id, other.channel_id, other.channel_id]
        assert isinstance(found[3], MissingKey)
        assert (server.quota.used("key-a"), server.quota.used("default")) == (1, 1)


async def test_a_spent_key_pauses_only_its_owners_channels(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    large, first = small("large", 120), small("first")
    async with StandIn(large, first, keys={"key-a", "key-b"}) as server:
        clock = Clock(hours=8)
        spent: list[float] = []
        at = START + timedelta(hours=7)
        clock.at.append((at, lambda: spent.append(values(watch.metrics, "thumbtune_quota_paused")[()])))
        watch = Service(
            database,
            [parse_channel_name(catalogue.channel_id) for catalogue in (large, first)],
            owned(server, {large.channel_id: "key-a", first.channel_id: "key-b"}),
            WatchOptions(Rhythm(EVERY, "tests"), units=4),
            stop=asyncio.Event(),
            now=clock.now,
            wait=clock.wait,
            http=hasty_http,
        )
        await watch.run()
        assert (server.quota.used("key-a"), server.quota.used("key-b")) == (4, 3)
    runs = {(run.channel_id, run.status) for run in sync_runs(database)}
    assert runs == {(large.channel_id, "quota"), (first.channel_id, "complete"), (first.channel_id, "unchanged")}
    assert spent == [1.0]
    assert "key-a" not in caplog.text + watch.metrics.text().decode()


@pytest.fixture
def postgres_store(migrated_postgres_url: str) -> Iterator[Database]:
    with open_database(migrated_postgres_url) as opened:
        yield opened


async def test_a_hanging_channel_does_not_delay_others(postgres_store: Database) -> None:
    catalogues = [small(f"c{number:02d}") for number in range(30)]
    hangs = catalogues[0]
    playlist = {"playlistId": hangs.uploads_playlist_id}
    hang = Fault("hang", path="/youtube/v3/playlistItems", query=playlist, delay_s=60)
    async with StandIn(*catalogues, faults=Faults([hang], most_in_a_row=None)) as server:
        stop = asyncio.Event()
        names = [parse_channel_name(catalogue.channel_id) for catalogue in catalogues]
        options = WatchOptions(Rhythm(EVERY, "tests"))
        settings = settings_from(server.environment())
        watch = Service(postgres_store, names, settings, options, stop=stop, http=hasty_http)
        task = asyncio.create_task(watch.run())
        deadline = time.monotonic() + 60
        while len(contents(postgres_store)) < 2 * 29:
            assert not task.done()
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        stop.set()
        await asyncio.wait_for(task, 30)
        server.release()
    with postgres_store.read() as session:
        hung = set(session.scalars(select(SyncRun.status).where(SyncRun.channel_id == hangs.channel_id)))
    assert hung == {"interrupted"}
