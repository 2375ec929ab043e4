"""Bulk writes give the same rows as SQLAlchemy, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from store.db import Database, insert_rows, update_rows
from store.errors import StoreError
from store.tables import Picture, Video
from tests.store.builders import add_channel

ELSEWHERE = datetime(2024, 7, 1, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=9)))
ITEM: dict[str, Any] = {
    "snippet": {"title": 'Ü "quoted" \\ %s %(name)s :name ? {x}', "tags": ["a", None, 1.5]},
    "n": 2**60,
}


def _video(video_id: str, **columns: Any) -> dict[str, Any]:
    return {
        "id": video_id,
        "channel_id": "UC1",
        "title": "%s %(title)s :title ? \x1b[31m 💡",
        "published_at": ELSEWHERE,
        "duration_s": None,
        "kind": "video",
        "availability": "available",
        "api_item": ITEM,
        "first_seen_at": datetime.min.replace(tzinfo=UTC),
        "last_seen_at": datetime(2024, 7, 1, tzinfo=UTC),
        **columns,
    }


def _picture(content: bytes, mime: str = "image/jpeg") -> dict[str, Any]:
    about = {"sha256": content.hex(), "bytes": content, "mime": mime, "width": 1, "height": 1}
    return {**about, "byte_count": len(content), "fetched_at": ELSEWHERE}


def _rows(database: Database) -> list[tuple[Any, ...]]:
    """All rows of `video` as the database returns them, without ids."""
    with database.read() as session:
        return [tuple(row[1:]) for row in session.execute(text("SELECT * FROM video ORDER BY id"))]


def test_an_inserted_row_equals_a_row_that_sqlalchemy_inserts(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        session.execute(insert(Video), [_video("1")])
        insert_rows(session, Video, [_video("2"), _video("3", published_at=None, api_item=None, duration_s=7)])
        session.execute(insert(Video), [_video("4", published_at=None, api_item=None, duration_s=7)])
    first, second, third, fourth = _rows(database)
    assert first == second
    assert third == fourth != first


def test_an_update_changes_only_the_named_columns_of_its_rows(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        insert_rows(session, Video, [_video(video_id) for video_id in "123"])
    with database.write() as session:
        update_rows(
            session,
            Video,
            [
                {"id": "3", "title": "third", "details_at": ELSEWHERE, "api_item": None},
                {"id": "1", "title": "first", "details_at": None, "api_item": {"a": []}},
            ],
        )
    with database.read() as session:
        found = session.scalars(select(Video).order_by(Video.id)).all()
    assert [video.title for video in found] == ["first", _video("2")["title"], "third"]
    assert [video.details_at for video in found] == [None, None, ELSEWHERE]
    assert [video.api_item for video in found] == [{"a": []}, ITEM, None]
    assert [video.published_at for video in found] == [ELSEWHERE] * 3


def test_skip_known_keeps_existing_rows(database: Database) -> None:
    with database.write() as session:
        insert_rows(session, Picture, [_picture(b"\0\xff")])
        insert_rows(session, Picture, [_picture(b"\0\xff", mime="image/png"), _picture(b"new")], skip_known=True)
    with database.read() as session:
        found = session.execute(select(Picture.bytes, Picture.mime).order_by(Picture.mime, Picture.sha256)).all()
    assert found == [(b"\0\xff", "image/jpeg"), (b"new", "image/jpeg")]
    with pytest.raises(StoreError), database.write() as session:
        insert_rows(session, Picture, [_picture(b"new")])


def test_an_update_of_a_missing_row_fails_and_changes_no_row(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        insert_rows(session, Video, [_video("1"), _video("3")])
    changes = [{"id": video_id, "title": "changed"} for video_id in "123"]
    with pytest.raises(StoreError, match="2 of 3 rows in video"), database.write() as session:
        update_rows(session, Video, changes)
    with database.read() as session:
        assert set(session.scalars(select(Video.title))) == {_video("1")["title"]}


def test_pending_objects_of_the_session_are_written_first(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        session.add(Video(**_video("1")))
        update_rows(session, Video, [{"id": "1", "title": "changed"}])
    with database.read() as session:
        assert session.scalars(select(Video.title)).all() == ["changed"]


def test_no_rows_execute_no_statement(database: Database) -> None:
    with database.write() as session:
        insert_rows(session, Video, [])
        update_rows(session, Video, [])
    assert _rows(database) == []


def test_a_time_without_zone_is_refused_and_nothing_is_written(database: Database) -> None:
    naive = _video("2", last_seen_at=datetime(2024, 7, 1))  # noqa: DTZ001
    with database.write() as session:
        add_channel(session)
    with pytest.raises(StoreError, match="naive datetime"), database.write() as session:
        insert_rows(session, Video, [_video("1"), naive])
    assert _rows(database) == []
