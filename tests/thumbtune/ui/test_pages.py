"""Pages that need no model: library, paging, videos, thumbnails, syncs, and errors."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import text as sql
from sqlalchemy import update

from collector.http import Listen
from store.db import Database, open_database
from store.tables import PictureFailure, SyncRun, Video
from store.types import utc_now
from store.youtube import add_units, pause_channel
from tests.hostile.titles import TITLES
from tests.store.builders import add_channel, add_video
from tests.thumbtune.ui.serving import Client, parsed, serving
from tests.trainer.tiny import draw
from thumbtune.commands.watch import watch
from thumbtune.ui.settings import PageSettings

PATHS = ("/", "/match", "/runs", "/syncs")


def shown(text: str) -> list[str]:
    """The ids of the videos of a grid, in order."""
    return [target.removeprefix("/video/") for target in parsed(text).links("/video/")]


async def test_the_library_has_pages(client: Client, filled: Database) -> None:
    seen: list[str] = []
    path = "/"
    pages = 0
    while True:
        answer = await client.get(path)
        assert answer.status == 200
        seen += shown(answer.text)
        pages += 1
        following = parsed(answer.text).all("a", rel="next")
        if not following:
            break
        path = str(following[0]["href"])
    with filled.read() as session:
        rows = session.query(Video.id).order_by(Video.published_at.desc(), Video.id).all()
    assert seen == [row[0] for row in rows], "newest first, ties by id, each once"
    assert pages == 2


async def test_videos_without_a_date_come_last_and_are_paged_too(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        add_channel(session)
        for number in range(60):
            add_video(session, f"undated-{number:02}", day=None, picture=f"{number}".encode())
        add_video(session, "dated", day=1, picture=b"dated")
    async with serving(str(sqlite_database.url)) as client:
        first = await client.get("/")
        second = await client.get(str(parsed(first.text).all("a", rel="next")[0]["href"]))
    assert shown(first.text) + shown(second.text) == ["dated", *(f"undated-{number:02}" for number in range(60))]


async def test_the_library_filters_by_channel_kind_split_and_date(client: Client, filled: Database) -> None:
    with filled.write() as session:
        session.execute(update(Video).where(Video.id == "UC1-003").values(split="test"))
        session.execute(update(Video).where(Video.id == "UC1-004").values(kind="short", picture_sha256=None))
    assert len(shown((await client.get("/?channel=UC2")).text)) == 3
    assert shown((await client.get("/?split=test")).text) == ["UC1-003"]
    assert shown((await client.get("/?kind=short")).text) == ["UC1-004"]
    assert "UC1-004" not in shown((await client.get("/")).text)
    assert len(shown((await client.get("/?split=none&channel=UC2")).text)) == 3
    some = shown((await client.get("/?from=2024-01-03&to=2024-01-04")).text)
    assert set(some) == {"UC1-002", "UC1-003", "UC2-002"}
    for strange in (
        "/?split=x&kind=y&from=z&to=9999-12-31&channel=%00&after=%F0",
        "/?after=~",
        "/?after=2024~%20",
        "/?k=-1",
    ):
        assert (await client.get(strange)).status == 200


@pytest.mark.processes  # of the model, which the page of a video asks
async def test_a_video_page_shows_its_versions(client: Client, filled: Database) -> None:
    answer = await client.get("/video/UC1-005")
    assert answer.status == 200
    page = parsed(answer.text)
    assert "navy" in page.text or "white" in page.text or "purple" in page.text or "black" in page.text
    digest = re.search(r"/picture/([0-9a-f]{64})", answer.text)
    assert digest is not None
    assert page.links("https://youtu.be/") == ["https://youtu.be/UC1-005"]
    for missing in (
        "/video/none",
        "/video/a%00b",
        "/video/..%2F..%2Fetc",
        "/nothing",
        "/runs/99",
        "/runs/999999999999",
    ):
        assert (await client.get(missing)).status == 404, missing


async def test_thumbnails_are_served_unchanged_and_cached_forever(client: Client) -> None:
    path = re.search(r"/picture/[0-9a-f]{64}", (await client.get("/")).text)
    assert path is not None
    async with client.session.get(client.url(path[0])) as answer:
        content = await answer.read()
        assert answer.status == 200
        assert answer.content_type == "image/jpeg"
        assert "immutable" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        etag = answer.headers["ETag"]
    assert content.startswith(b"\x89PNG"), "as stored, regardless of the content"
    again = await client.get(path[0], headers={"If-None-Match": etag})
    assert (again.status, again.text) == (304, "")
    for unknown in ("/picture/" + "0" * 64, path[0].upper().replace("/PICTURE", "/picture"), "/picture/x", "/upload/x"):
        answer_to = await client.get(unknown)
        assert answer_to.status == 404
        assert "immutable" not in answer_to.headers["Cache-Control"]


@pytest.mark.slow
async def test_untrusted_titles_are_escaped(sqlite_database: Database) -> None:
    with sqlite_database.write() as session:
        add_channel(session, title="<b>Channel</b>\u202e")
        for number, title in enumerate(TITLES):
            add_video(session, f"hostile-{number:02}", day=number, title=title, picture=draw("red", "bar", number))
    async with serving(str(sqlite_database.url)) as client:
        texts = [
            (await client.get(path)).text for path in ("/", "/syncs", *(f"/video/hostile-{n:02}" for n in range(8)))
        ]
    for text in texts:
        page = parsed(text)
        assert all(str(have.get("src")).startswith("/static/") for have in page.all("script"))
        assert not page.all("b")
        assert all("onerror" not in have and "style" not in have for _, have in page.tags)
        assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\x07\x1b\x9b") & set(text)
    assert "<script>alert(1)</script>" in parsed(texts[0]).text
    assert all(have.get("dir") == "auto" for have in parsed(texts[0]).all("bdi"))


@pytest.mark.processes  # of the model, which is asked to search and to compare
@pytest.mark.parametrize("path", ["/?q={}", "/runs/compare?a={}&b={}", "/video/{}", "/runs/{}", "/?like={}&channel={}"])
async def test_links_can_not_spoof_the_page(client: Client, path: str) -> None:
    for text in ("\u202eknil\u2066", "\x07\x1b[1m", "<b>bold</b>", "\0"):
        page = parsed((await client.get(path.replace("{}", quote(text, safe="")))).text)
        assert not set("\u202e\u2066\x07\x1b\0\ufffd") & set(page.text)
        assert not page.all("b")


async def test_the_syncs_page_shows_units_and_failures(client: Client, filled: Database) -> None:
    now = utc_now()
    with filled.write() as session:
        session.add(
            SyncRun(
                channel_id="UC1", mode="full", status="failed", started_at=now, host="h", pid=1, units=17,
                error="the file /srv/secret place/x.bin and https://me:word@example.org/ failed",
            )
        )  # fmt: skip
        session.add(
            PictureFailure(
                video_id="UC1-001", url=None, reason="404 <i>", tries=3, first_failed_at=now, last_failed_at=now,
                next_try_at=now + timedelta(hours=16),
            )
        )  # fmt: skip
    page = parsed((await client.get("/syncs")).text)
    assert "@uc1" in page.text
    assert "404 <i>" in page.text
    assert "17" in page.text
    assert "word" not in page.text.replace("password", "")
    assert "/srv" not in page.text


async def test_the_next_syncs_are_those_of_watch(filled: Database) -> None:
    pytest.importorskip("prometheus_client")
    from collector.watch import parse_duration  # noqa: PLC0415 (an extra)

    defaults = {parameter.name: parameter.default for parameter in watch.params}
    settings = PageSettings(str(filled.url), Listen("127.0.0.1", 0))
    assert (settings.every, settings.units) == (parse_duration(str(defaults["every"])), defaults["units"])
    now = utc_now()
    with filled.write() as session:
        pause_channel(session, "UC2", now)
        for number in range(105):
            add_video(session, f"failed-{number:03}", day=number, picture=None)
            session.add(
                PictureFailure(
                    video_id=f"failed-{number:03}", url=None, reason="404", tries=1, first_failed_at=now,
                    last_failed_at=now, next_try_at=now,
                )
            )  # fmt: skip
    async with serving(str(filled.url), every=timedelta(hours=3), units=500) as client:
        page = parsed((await client.get("/syncs")).text)
    assert "105 thumbnails that failed" in page.text
    assert "500 left of the 500" in page.text
    assert "Every 3 hours" in page.text
    assert "sync @uc1 now" in page.text
    assert "sync @uc2" not in page.text


async def test_each_key_has_its_own_units(filled: Database) -> None:
    with filled.write() as session:
        for key, units in (("aaaaaaaaaaaa", 100), ("bbbbbbbbbbbb", 600)):
            add_units(session, key, units, utc_now())
    async with serving(str(filled.url), units=500) as client:
        text = " ".join(parsed((await client.get("/syncs")).text).text.split())
    assert "700 units spent today" in text
    assert "400 left of the 500 that watch may spend with the key aaaaaaaaaaaa" in text
    assert "0 left of the 500 that watch may spend with the key bbbbbbbbbbbb" in text
    assert "Today's units are spent" not in text


@pytest.mark.parametrize("path", PATHS)
async def test_an_empty_store_shows_the_next_command(database: Database, path: str) -> None:
    async with serving(url_of(database)) as client:
        answer = await client.get(path)
    assert answer.status == 200
    if path in ("/", "/syncs"):
        assert "thumbtune sync @yourchannel" in answer.text
    if path == "/runs":
        assert "thumbtune train" in answer.text


@pytest.mark.processes  # of the model, which the page of a video asks
async def test_a_locked_and_a_newer_store_show_an_error_on_both_databases(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        add_channel(session, "UC1")
        add_video(session, "UC1-001", day=1, title="one", picture=draw("red", "bar", 1))
    async with serving(url_of(database)) as client:
        for path in ("/", "/video/UC1-001", "/match?v=UC1-001", "/runs", "/syncs"):
            assert (await client.get(path)).status == 200
        monkeypatch.setattr("thumbtune.ui.store_access.ANSWERS_IN_S", 0.5)
        with locked(database):
            answer = await client.get("/")
            assert (answer.status, "thumbtune db check" in answer.text) == (503, True)
            assert (await client.get("/healthz")).text == "ok\n"
        monkeypatch.setattr("thumbtune.ui.store_access.ANSWERS_IN_S", 30.0)
        assert (await client.get("/")).status == 200
    with database.write() as session:
        session.execute(sql("UPDATE alembic_version SET version_num = '9999'"))
    async with serving(url_of(database)) as client:
        answer = await client.get("/")
    assert (answer.status, "pip install --upgrade thumbtune" in answer.text) == (503, True)


def url_of(database: Database) -> str:
    return database.url.render_as_string(hide_password=False)


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Lock the whole store, as a repair by other programs may."""
    if database.path is None:
        with database.write() as session:
            session.execute(sql("LOCK TABLE video, channel IN ACCESS EXCLUSIVE MODE"))
            yield
        return
    database.close()
    connection = sqlite3.connect(database.path, timeout=60, isolation_level=None)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.close()


@pytest.mark.parametrize("path", [*PATHS[:1], *PATHS[2:], "/video/x", "/picture/" + "0" * 64])
async def test_a_store_can_appear_after_the_page_was_started(tmp_path: Path, migrated_file: Path, path: str) -> None:
    file = tmp_path / "a place" / "thumbtune.db"
    file.parent.mkdir()
    async with serving(f"sqlite:///{file}") as client:
        missing = await client.get(path)
        assert missing.status == 503
        assert "thumbtune sync @yourchannel" in missing.text
        assert str(tmp_path) not in missing.text
        assert "a place" not in missing.text
        open_database(f"sqlite:///{file}").close()
        assert (await client.get(path)).status in (200, 404)
        file.unlink()
        assert (await client.get(path)).status == 503
        shutil.copy(migrated_file, file)
        for beside in file.parent.glob("*-*"):
            beside.unlink()
        connection = sqlite3.connect(file)
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
        connection.close()
        newer = await client.get(path)
        assert newer.status == 503
        assert "pip install --upgrade thumbtune" in newer.text


async def test_a_file_that_is_not_a_store_and_an_invalid_url_show_an_error(tmp_path: Path) -> None:
    file = tmp_path / "thumbtune.db"
    file.write_text("no database at all " * 100)
    for url in (f"sqlite:///{file}", "mysql://me:secret@host/x", "postgresql://me:secret@127.0.0.1:1/x"):
        async with serving(url) as client:
            answer = await client.get("/")
        assert answer.status == 503
        assert "secret" not in answer.text
        assert str(tmp_path) not in answer.text
