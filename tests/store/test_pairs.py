"""The trainer's data about videos: pairs with their versions, groups, permanent splits and thumbnails."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from store.db import Database, open_database, rows_as_dicts
from store.errors import NotFound
from store.tables import Video, VideoVersion
from store.training import (
    Pair,
    SplitVideo,
    assign_splits,
    channel_titles,
    current_pairs,
    find_video,
    read_pictures,
    set_groups,
    split_videos,
)
from store.youtube import lock_videos
from tests.store.builders import DAY_ONE, add_channel, add_video, change_video, url_of

LATER = DAY_ONE.replace(year=2025)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_pairs_come_newest_first_with_their_version(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UC2", None, "Two")
        versions = {
            "old": add_video(session, "old", day=1),
            "same-b": add_video(session, "same-b", day=5),
            "same-a": add_video(session, "same-a", day=5, channel_id="UC2"),
            "new": add_video(session, "new", day=9),
            "undated": add_video(session, "undated", day=None),
        }
    with database.read() as session:
        pairs = current_pairs(session)
    assert [pair.video_id for pair in pairs] == ["new", "same-a", "same-b", "old", "undated"]
    assert {pair.video_id: pair.version_id for pair in pairs} == versions
    assert pairs[1] == Pair("same-a", "UC2", versions["same-a"], "The title of same-a", digest(b"same-a"))


def test_the_view_decides_what_a_pair_is(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "pair")
        add_video(session, "short", kind="short")
        add_video(session, "private", availability="private")
        add_video(session, "no-picture", picture=None)
        add_video(session, "no-title", title="  ")
        add_video(session, "no-duration", duration_s=None)
    with database.read() as session:
        assert [pair.video_id for pair in current_pairs(session)] == ["pair"]
        assert [row["video_id"] for row in rows_as_dicts(session, "SELECT video_id FROM pairs")] == ["pair"]


def test_a_changed_video_has_its_current_version(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        first = add_video(session, "v1", title="First")
        second = change_video(session, "v1", title="Second")
        third = change_video(session, "v1", picture=b"another")
        assert first < second < third
    with database.read() as session:
        assert current_pairs(session) == [Pair("v1", "UC1", third, "Second", digest(b"another"))]


def test_a_restored_title_has_its_newest_version(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "v1", title="First")
        change_video(session, "v1", title="Second")
        again = change_video(session, "v1", title="First")
    with database.read() as session:
        assert [(pair.version_id, pair.title) for pair in current_pairs(session)] == [(again, "First")]


def test_a_pair_without_a_new_thumbnail_stays_the_previous_version(database: Database) -> None:
    """A refresh saw a new title; its thumbnail is not checked yet."""
    with database.write() as session:
        add_channel(session)
        first = add_video(session, "v1", title="First")
        version = change_video(session, "v1", title="Second")
        session.execute(update(VideoVersion).where(VideoVersion.id == version).values(picture_sha256=None))
    with database.read() as session:
        assert current_pairs(session) == [Pair("v1", "UC1", first, "First", digest(b"v1"))]
        assert [(row.title, row.picture_sha256) for row in split_videos(session)] == [("First", digest(b"v1"))]
        assert find_video(session, "v1") == ("First", digest(b"v1"))


def test_split_videos_are_pairs_and_videos_with_a_split(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "pair", day=1)
        add_video(session, "held", day=2, split="test", split_at=DAY_ONE)
        add_video(session, "gone", day=3, split="train", split_at=DAY_ONE, availability="gone")
        add_video(session, "undated", day=None, picture=None, split="valid", split_at=DAY_ONE)
        add_video(session, "short", day=4, kind="short")
    with database.read() as session:
        assert split_videos(session) == [
            SplitVideo("gone", "UC1", "The title of gone", digest(b"gone"), "train", False),
            SplitVideo("held", "UC1", "The title of held", digest(b"held"), "test", True),
            SplitVideo("pair", "UC1", "The title of pair", digest(b"pair"), None, True),
            SplitVideo("undated", "UC1", "The title of undated", None, "valid", False),
        ]


def test_groups_are_written_and_updated(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        for video in ("a", "b", "c", "left"):
            add_video(session, video, group_id="old")
        set_groups(session, {"a": "a", "b": "a", "c": "old"})
        set_groups(session, {})
    with database.read() as session:
        groups = {row[0]: row[1] for row in session.execute(select(Video.id, Video.group_id))}
    assert groups == {"a": "a", "b": "a", "c": "old", "left": "old"}


def test_a_split_is_assigned_once(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        for video in ("a", "b", "c"):
            add_video(session, video)
    with database.write() as session:
        assert assign_splits(session, {"a": "train", "b": "test"}, DAY_ONE) == {"a": "train", "b": "test"}
    with database.write() as session:
        now = assign_splits(session, {"a": "test", "b": "test", "c": "valid"}, LATER)
        assert now == {"a": "train", "b": "test", "c": "valid"}
    with database.read() as session:
        times = {row[0]: row[1] for row in session.execute(select(Video.id, Video.split_at))}
    assert times == {"a": DAY_ONE, "b": DAY_ONE, "c": LATER}


@pytest.mark.slow
def test_splits_of_more_videos_than_one_statement_takes(database: Database) -> None:
    splits = {f"v{index:04}": ("train", "valid", "test")[index % 3] for index in range(1200)}
    with database.write() as session:
        add_channel(session)
        for video in splits:
            add_video(session, video, picture=b"one for all")
        set_groups(session, dict.fromkeys(splits, "v0000"))
        assert assign_splits(session, splits, DAY_ONE) == splits
    with database.read() as session:
        rows = session.execute(select(Video.id, Video.split, Video.group_id)).all()
        assert {row[0]: row[1] for row in rows} == splits
        assert {row[2] for row in rows} == {"v0000"}


def at_once(url: str, *writers: Callable[[Database], dict[str, str]]) -> list[dict[str, str]]:
    """Run writers in threads that start together, each with a store of its own, as processes would have."""
    barrier = threading.Barrier(len(writers))

    def run(writer: Callable[[Database], dict[str, str]]) -> dict[str, str]:
        database = open_database(url)
        try:
            barrier.wait(30)
            return writer(database)
        finally:
            database.close()

    with ThreadPoolExecutor(len(writers)) as pool:
        return [future.result(60) for future in [pool.submit(run, writer) for writer in writers]]


@pytest.mark.slow
def test_two_concurrent_writers_agree_on_every_split(database: Database) -> None:
    """Two writers use opposite orders and opposite splits, five times: no deadlock, and one result."""
    videos = [f"v{index:03}" for index in range(400)]
    with database.write() as session:
        add_channel(session)
        for video in videos:
            add_video(session, video, picture=b"one for all")

    def snapshot(ids: list[str], splits: tuple[str, str], group: str) -> Callable[[Database], dict[str, str]]:
        def write(store: Database) -> dict[str, str]:
            with store.write() as session:
                set_groups(session, dict.fromkeys(ids, group))
                half = len(ids) // 2
                wanted = {video: splits[position >= half] for position, video in enumerate(ids)}
                return assign_splits(session, wanted, DAY_ONE)

        return write

    for number in range(5):
        one, other = at_once(
            url_of(database),
            snapshot(videos, ("train", "test"), f"one {number}"),
            snapshot(videos[::-1], ("train", "test"), f"other {number}"),
        )
        assert one == other
        with database.write() as session:
            rows = session.execute(select(Video.id, Video.split, Video.group_id)).all()
            assert {row[0]: row[1] for row in rows} == one
            assert len({row[2] for row in rows}) == 1
            session.execute(update(Video).values(split=None))


def test_a_second_trainer_sees_the_splits_of_the_first(database: Database) -> None:
    """Otherwise the second writer would give a new video another split than the rest of its group has."""
    with database.write() as session:
        add_channel(session)
        for index in range(50):
            add_video(session, f"v{index:02}", picture=b"one for all")

    def train(split: str) -> Callable[[Database], dict[str, str]]:
        def run(store: Database) -> dict[str, str]:
            with store.write() as session:
                lock_videos(session)
                seen = {video.video_id: video.split for video in split_videos(session)}
                assert len(seen) == 50
                if set(seen.values()) == {None}:
                    return assign_splits(session, dict.fromkeys(seen, split), DAY_ONE)
                return {video: f"seen: {known}" for video, known in seen.items()}

        return run

    for _ in range(5):
        answers = at_once(url_of(database), train("train"), train("test"))
        outcomes = sorted("/".join(sorted(set(answer.values()))) for answer in answers)
        assert outcomes in (["seen: train", "train"], ["seen: test", "test"])
        with database.write() as session:
            session.execute(update(Video).values(split=None))


def test_a_writer_waits_for_rows_that_another_has_locked(database: Database) -> None:
    """Concurrent snapshots of one channel and of all channels: each waits for the rows that they share."""
    with database.write() as session:
        add_channel(session)
        for index in range(300):
            add_video(session, f"v{index:03}", picture=b"one for all")

    def write(numbers: range, group: str) -> Callable[[Database], dict[str, str]]:
        wanted = {f"v{index:03}": ("train", "valid", "test")[index % 3] for index in numbers}

        def run(store: Database) -> dict[str, str]:
            with store.write() as session:
                set_groups(session, dict.fromkeys(wanted, group))
                return assign_splits(session, wanted, DAY_ONE)

        return run

    one, other = at_once(url_of(database), write(range(300), "all"), write(range(299, 99, -1), "some"))
    assert len(one) == 300
    assert all(one[video] == split for video, split in other.items())


@pytest.mark.slow
def test_thumbnails_are_read_by_digest(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        for index in range(1100):
            add_video(session, f"v{index}")
    wanted = [digest(f"v{index}".encode()) for index in range(1100)]
    with database.read() as session:
        found = read_pictures(session, [*wanted, wanted[0]])
        assert found == {digest(f"v{index}".encode()): f"v{index}".encode() for index in range(1100)}
        assert read_pictures(session, []) == {}
        with pytest.raises(NotFound, match=f"{'0' * 64} is not in the store; 'thumbtune db check --repair'"):
            read_pictures(session, [wanted[0], "0" * 64])


def test_channel_titles_and_handles_are_returned(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UC2", None, "Zwei")
    with database.read() as session:
        assert channel_titles(session) == {"UC1": ("@one", "One"), "UC2": (None, "Zwei")}
