"""Syncs of a store whose thumbnails are in a folder or a bucket, also when that can't be written."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from pathlib import Path

import pytest
from sqlalchemy import select

from collector.settings import settings_from
from collector.sync import repair_pictures
from store.db import (
    Database,
    check,
    delete_files,
    expect_pictures,
    move_pictures,
    open_database,
    pictures_to_repair,
)
from store.db.places import open_place
from store.errors import PicturesUnavailable
from store.tables import Picture, PictureFailure
from store.training import read_pictures
from store.types import utc_now
from store.youtube import mark_lost, remove_channel
from tests.collector.channels import HIGH, channel, contents, drawn, hasty_http, jpeg, sync, video
from tests.object_store import ObjectStore
from tests.standin import StandIn
from thumbtune.standin.catalogue import Catalogue, channel_id_from

ONE, TWO = (hashlib.sha256(jpeg(f"video{number:06d}", HIGH)).hexdigest() for number in (1, 2))


def stored(database: Database) -> dict[str, bytes]:
    with database.read() as session:
        return read_pictures(session, session.scalars(select(Picture.sha256)))


def damaged(database: Database) -> list[str]:
    return [digest for result in check(database) for digest in result.digests]


@pytest.mark.slow
async def test_syncs_to_a_folder_or_bucket_equal_syncs_to_the_database(
    database: Database, place_url: str, tmp_path: Path
) -> None:
    outside = expect_pictures(database, place_url)
    async with StandIn(channel(9)) as server:
        report = await sync(outside, server)
        assert (report.status, report.pictures_fetched) == ("complete", 9)
        with open_database(f"sqlite:///{tmp_path / 'inside.db'}") as inside:
            await sync(inside, server)
            assert contents(outside) == contents(inside)
            assert stored(outside) == stored(inside)
        with outside.read() as session:
            assert set(session.scalars(select(Picture.bytes))) == {b""}
        assert not any(result.problems for result in check(outside))
        server.journal.clear()
        assert (await sync(outside, server, mode="refresh")).changed == 0
        assert server.journal.count("picture", 304) == 9


@pytest.mark.slow
async def test_lost_and_damaged_files_are_fetched_again(sqlite_database: Database, place_url: str) -> None:
    database = expect_pictures(sqlite_database, place_url)
    place = open_place(place_url)
    async with StandIn(channel(5)) as server:
        await sync(database, server)

        def lose() -> None:
            place.delete_many([ONE])
            place.put_many({TWO: b"x" + jpeg("video000002", HIGH)[1:]})
            assert damaged(database) == sorted([ONE, TWO])

        lose()
        with database.read() as session:
            todo = pictures_to_repair(session)
        hosts = settings_from(server.environment()).thumbnail_hosts
        repairs = await repair_pictures(database, todo, hosts, http=hasty_http())
        assert [done.reason for done in repairs] == [None, None]
        assert damaged(database) == []

        lose()
        await sync(database, server, mode="refresh")
        assert damaged(database) == []

        lose()
        with database.write() as session:
            mark_lost(session, [ONE, TWO], utc_now())
        server.journal.clear()
        await sync(database, server)
        assert damaged(database) == []
        assert server.journal.count("picture") == 2


@pytest.mark.slow
async def test_a_sync_survives_a_short_outage(sqlite_database: Database, bucket: ObjectStore) -> None:
    database = expect_pictures(sqlite_database, bucket.url)
    bucket.failing(5, "503 Slow Down", "SlowDown")
    async with StandIn(channel(5)) as server:
        assert (await sync(database, server)).pictures_fetched == 5
    assert damaged(database) == []


async def test_a_sync_without_write_permission_ends_and_a_later_sync_completes_it(
    sqlite_database: Database, bucket: ObjectStore
) -> None:
    database = expect_pictures(sqlite_database, bucket.url)
    bucket.failing(-1, "403 Forbidden", "AccessDenied")
    async with StandIn(channel(5)) as server:
        with pytest.raises(PicturesUnavailable):
            await sync(database, server)
        with database.read() as session:
            assert session.scalar(select(Picture)) is None
            assert session.scalar(select(PictureFailure)) is None
        bucket.answer = None
        assert (await sync(database, server)).pictures_fetched == 5
    assert len(stored(database)) == 5


async def test_a_slow_object_store_blocks_neither_the_loop_nor_the_database(
    sqlite_database: Database, bucket: ObjectStore
) -> None:
    database = expect_pictures(sqlite_database, bucket.url)
    asked, answered = threading.Event(), threading.Event()

    def wait(environ: dict[str, object], _start: object) -> None:
        if environ["REQUEST_METHOD"] == "PUT":
            asked.set()
            answered.wait(30)

    bucket.answer = wait
    async with StandIn(channel(5)) as server:
        syncing = asyncio.create_task(sync(database, server))
        await asyncio.to_thread(asked.wait, 30)
        with database.write() as session:  # no transaction waits for the object store
            assert session.scalar(select(Picture)) is None
        answered.set()
        assert (await syncing).pictures_fetched == 5


async def test_the_files_of_a_removed_channel_are_deleted(sqlite_database: Database, place_url: str) -> None:
    database = expect_pictures(sqlite_database, place_url)
    shared = video(7, picture=drawn("video000001"))
    one = channel(3, name="one")
    two = Catalogue(channel_id_from("two"), "@two", "Two", videos={shared.id: shared})
    async with StandIn(one, two) as server:
        await sync(database, server, "@one", "@two")
    with database.write() as session:
        files = remove_channel(
            session, one.channel_id, keep_runs=False, host="here", is_alive=lambda *_: False, now=utc_now()
        )
    delete_files(database, files)
    left = {one.sha256 for page in open_place(place_url).listed() for one in page}
    assert left == set(stored(database)) == {ONE}


async def test_a_sync_does_not_write_to_the_previous_place(sqlite_database: Database, place_url: str) -> None:
    before = expect_pictures(sqlite_database, place_url)
    async with StandIn(channel(3)) as server:
        await sync(before, server)
    move_pictures(before, None)
    after = open_database(str(before))
    async with StandIn(channel(4)) as server:
        with pytest.raises(PicturesUnavailable):
            await sync(before, server)
        assert (await sync(after, server)).pictures_fetched == 1
    assert len(stored(after)) == 4
    after.close()
