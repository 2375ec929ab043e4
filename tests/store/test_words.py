"""The words on thumbnails: stored per thumbnail and reader, and shown by the view `pairs`."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from store.db import Database, clear_cache, rows_as_dicts
from store.training.words import read_words_of, thumbnails_with_words, write_words
from tests.store.builders import DAY_ONE, add_channel, add_video

ONE, TWO = (hashlib.sha256(name).hexdigest() for name in (b"one", b"two"))


def shown(database: Database) -> dict[str, str | None]:
    with database.read() as session:
        rows = rows_as_dicts(session, "SELECT video_id, thumbnail_text FROM pairs")
    return {row["video_id"]: row["thumbnail_text"] for row in rows}


def test_words_are_stored_for_each_ocr_reader(database: Database) -> None:
    with database.write() as session:
        write_words(session, "a 1", {ONE: "FOX 狐", TWO: ""}, DAY_ONE)
        write_words(session, "a 1", {TWO: "hen"}, DAY_ONE)
        write_words(session, "a 1", {}, DAY_ONE)
    with database.read() as session:
        assert read_words_of(session, "a 1", [ONE, TWO, "f" * 64]) == {ONE: "FOX 狐", TWO: "hen"}
        assert read_words_of(session, "a 2", [ONE, TWO]) == {}


def test_more_thumbnails_than_one_statement_takes(database: Database) -> None:
    texts = {f"{n:064d}": str(n) for n in range(1200)}
    with database.write() as session:
        write_words(session, "a 1", texts, DAY_ONE)
    with database.read() as session:
        assert read_words_of(session, "a 1", sorted(texts)) == texts


def test_the_view_has_the_words_read_last(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "one")
        add_video(session, "two")
        write_words(session, "b 1", {ONE: "new"}, DAY_ONE + timedelta(days=1))
        write_words(session, "c 1", {ONE: "old"}, DAY_ONE)
    assert shown(database) == {"one": "new", "two": None}


def test_clear_cache_deletes_words(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "one")
        write_words(session, "a 1", {ONE: "fox"}, DAY_ONE)
    clear_cache(database)
    assert shown(database) == {"one": None}


def test_a_search_for_words_needs_all_words_and_ignores_case_and_accents(database: Database) -> None:
    texts = {"one": "FÜCHSE im Schnee", "two": "Fuchse in the snow", "three": "狐 İstanbul", "four": ""}
    with database.write() as session:
        add_channel(session, "UC1")
        add_channel(session, "UC2")
        for day, video in enumerate((*texts, "unread")):
            channel = "UC2" if video == "two" else "UC1"
            add_video(session, video, day=day, title=f"Title {video}", picture=video.encode(), channel_id=channel)
        for video, text in texts.items():
            write_words(session, "a reader 1", {hashlib.sha256(video.encode()).hexdigest(): text}, DAY_ONE)

    def found(words: str, channels: tuple[str, ...] = ()) -> list[str]:
        with database.read() as session:
            return [video.video_id for video in thumbnails_with_words(session, words, channels).matching]

    assert found("füchse") == found("FUCHSE") == ["two", "one"], "newest first"
    assert found("schnee füchse") == ["one"]
    assert found("fuchse", ("UC2",)) == ["two"]
    assert found("狐") == found("istanbul") == ["three"]
    assert found("hen") == []
    with database.read() as session:
        counts = thumbnails_with_words(session, "snow")
    assert (counts.searched, counts.unread, counts.matching[0].text) == (5, 1, "Fuchse in the snow")
