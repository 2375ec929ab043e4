"""Damaged thumbnails are found, fetched again and replaced; those that are no longer available are reported."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from collector.settings import settings_from
from collector.sync import Repair, repair_pictures
from collector.sync.repair import CHANGED, NOT_SHOWN
from store.db import Database, check, pictures_to_repair
from store.db.damage import damaged_pictures, missing_pictures
from tests import forked
from tests.collector.channels import HIGH, channel, drawn, hasty_http, jpeg, later, sync
from tests.standin import Fault, Faults, StandIn

ONE, TWO = "video000001", "video000002"


def digest_of(text_: str) -> str:
    return hashlib.sha256(jpeg(text_, HIGH)).hexdigest()


DAMAGES: dict[str, str] = {
    "other bytes": "UPDATE picture SET bytes = x'00' || substr(bytes, 2) WHERE sha256 = ?",
    "truncated": "UPDATE picture SET bytes = substr(bytes, 1, 100) WHERE sha256 = ?",
    "empty": "UPDATE picture SET bytes = x'' WHERE sha256 = ?",
    "text": "UPDATE picture SET bytes = 'no bytes' WHERE sha256 = ?",
    "miscounted": "UPDATE picture SET byte_count = 7 WHERE sha256 = ?",
    "missing": "DELETE FROM picture WHERE sha256 = ?",
}


def damage(database: Database, how: str, *videos: str) -> None:
    """Damage a stored thumbnail, as a bad disk or another program may."""
    plain = sqlite3.connect(str(database.path))
    with plain:
        for video_id in videos:
            assert plain.execute(DAMAGES[how], (digest_of(video_id),)).rowcount == 1
    plain.close()


def bad(database: Database) -> list[str]:
    with database.read() as session:
        return [picture.sha256 for picture in pictures_to_repair(session)]


async def repair(database: Database, server: StandIn) -> list[Repair]:
    with database.read() as session:
        damaged = pictures_to_repair(session)
    hosts = settings_from(server.environment()).thumbnail_hosts
    return await repair_pictures(database, damaged, hosts, http=hasty_http())


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
async def test_a_damaged_thumbnail_is_fetched_again(sqlite_database: Database, how: str) -> None:
    async with StandIn(channel(5)) as server:
        await sync(sqlite_database, server)
        damage(sqlite_database, how, ONE, TWO)
        assert bad(sqlite_database) == sorted([digest_of(ONE), digest_of(TWO)])
        spent = server.units
        server.journal.clear()
        assert {done.reason for done in await repair(sqlite_database, server)} == {None}
        assert (server.units, server.journal.count()) == (spent, server.journal.count("picture", 200)) == (spent, 2)
    assert not any(result.problems for result in check(sqlite_database))


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
async def test_a_refresh_fetches_damaged_thumbnails_unconditionally(sqlite_database: Database, how: str) -> None:
    async with StandIn(channel(5)) as server:
        await sync(sqlite_database, server)
        damage(sqlite_database, how, ONE)
        server.journal.clear()
        report = await sync(sqlite_database, server, mode="refresh")
        assert (server.journal.count("picture", 200), server.journal.count("picture", 304)) == (1, 4)
        assert (report.status, report.changed) == ("complete", 0)
    assert bad(sqlite_database) == []


async def test_a_thumbnail_of_many_videos_is_repaired_once_from_any_of_them(sqlite_database: Database) -> None:
    catalogue = channel(3, picture=drawn("shared"))
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        plain = sqlite3.connect(str(sqlite_database.path))
        with plain:
            plain.execute("UPDATE picture SET bytes = x'00'")
        plain.close()
        catalogue.change("video000000", picture=drawn("another"))
        missing = Fault("status", path=f"/vi/{ONE}/", status=404)
        server.faults = Faults([missing], most_in_a_row=None)
        server.journal.clear()
        assert await repair(sqlite_database, server) == [Repair(digest_of("shared"), None)]
    assert bad(sqlite_database) == []


@pytest.mark.slow
async def test_an_unavailable_thumbnail_is_reported_and_the_video_gets_its_current_thumbnail(
    sqlite_database: Database,
) -> None:
    catalogue = channel(3)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.change(ONE, picture=drawn("another"))
        await sync(sqlite_database, server, mode="refresh")
        catalogue.change(TWO, picture=drawn("by now"))
        damage(sqlite_database, "truncated", "video000000", ONE, TWO)
        server.faults = Faults([Fault("status", path="/vi/video000000/", status=404)], most_in_a_row=None)
        done = {picture.sha256: picture.reason for picture in await repair(sqlite_database, server)}
    assert done[digest_of(ONE)] == NOT_SHOWN
    assert done[digest_of(TWO)] == CHANGED
    assert "404" in (done[digest_of("video000000")] or "")
    assert bad(sqlite_database) == sorted(done)
    with sqlite_database.read() as session:
        query = text("SELECT picture_sha256 FROM pairs WHERE video_id = :id")
        assert session.scalar(query, {"id": TWO}) == digest_of("by now")


@pytest.mark.slow
async def test_a_missing_thumbnail_of_an_older_version_is_found(sqlite_database: Database) -> None:
    catalogue = channel(3)
    async with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        catalogue.change(ONE, picture=drawn("another"))
        await sync(sqlite_database, server, mode="refresh", now=later(1))
    damage(sqlite_database, "missing", ONE, TWO)
    with sqlite_database.read() as session:
        assert missing_pictures(session) == sorted([digest_of(ONE), digest_of(TWO)])


@pytest.mark.slow
async def test_both_databases_hash_thumbnails(database: Database) -> None:
    async with StandIn(channel(3)) as server:
        await sync(database, server)
    with database.write() as session:
        row = {"sha256": digest_of(ONE)}
        session.execute(text("UPDATE picture SET byte_count = byte_count + 1 WHERE sha256 = :sha256"), row)
    with database.read() as session:
        found = dict(damaged_pictures(session))
        assert [sha256 for sha256, problem in found.items() if problem] == [digest_of(ONE)]
        assert dict(damaged_pictures(session, [digest_of(TWO), "0" * 64])) == {digest_of(TWO): None}
    async with StandIn(channel(3)) as server:
        await sync(database, server, mode="refresh")
    with database.read() as session:
        assert set(dict(damaged_pictures(session)).values()) == {None}


def run_check(path: Path, server: StandIn, *arguments: str) -> tuple[int, dict[str, object]]:
    environment = {name: value for name, value in server.environment().items() if name != "YOUTUBE_API_KEY"}
    command = [*forked.THUMBTUNE, "--db", f"sqlite:///{path}", "db", "check", "--json", *arguments]
    done = forked.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.processes
async def test_the_command_repairs_thumbnails_and_reports_the_remaining_damage(sqlite_database: Database) -> None:
    path = sqlite_database.path
    assert path is not None
    catalogue = channel(3)
    with StandIn(catalogue) as server:
        await sync(sqlite_database, server)
        sqlite_database.close()
        damage(sqlite_database, "other bytes", ONE, TWO)
        code, told = run_check(path, server)
        assert (code, told["sound"]) == (1, False)
        code, told = run_check(path, server, "--repair")
        assert (code, told["sound"], told["repaired"]) == (0, True, sorted([digest_of(ONE), digest_of(TWO)]))
        assert run_check(path, server, "--repair")[0] == 0
        damage(sqlite_database, "empty", ONE, TWO)
        catalogue.change(TWO, picture=drawn("by now"))
        code, told = run_check(path, server, "--repair")
        assert (code, told["sound"], told["repaired"]) == (1, False, [digest_of(ONE)])
        assert told["not_repaired"] == {digest_of(TWO): CHANGED}
