"""Removing a channel: what is deleted, what is kept, and that everything else works, on both databases."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from store.db import Database, check
from store.errors import ContentRemoved, InUse, NotFound
from store.tables import (
    Base,
    Channel,
    Evaluation,
    Feature,
    Picture,
    PictureFailure,
    Rank,
    SnapshotExample,
    SyncRun,
    TrainingRun,
    Video,
    VideoReading,
    VideoVersion,
)
from store.training import (
    ExampleRow,
    add_evaluations,
    add_ranks,
    channel_titles,
    current_pairs,
    end_run,
    load_examples,
    read_features,
    read_pictures,
    save_snapshot,
    snapshot_pairs,
    split_videos,
    start_run,
    write_features,
)
from store.youtube import (
    LEASE,
    begin_sync,
    channel_ids,
    contents_of,
    find_by_handle,
    get_channel,
    remove_channel,
    save_channel,
    summaries,
)
from tests.store.builders import DAY_ONE, add_channel, add_video, change_video, url_of

NOW = DAY_ONE + timedelta(days=9)
HOST = "here"
RUN: dict[str, Any] = {
    "base_model": "clip",
    "trained": "projection",
    "seed": 0,
    "settings": {},
    "packages": {},
    "host": HOST,
    "pid": 1,
}


def dead(_pid: int, _at: datetime, _start: int | None) -> bool:
    return False


def alive(_pid: int, _at: datetime, _start: int | None) -> bool:
    return True


def remove(database: Database, channel_id: str = "UC1", *, keep_runs: bool = False, is_alive: Any = dead) -> None:
    with database.write() as session:
        remove_channel(session, channel_id, keep_runs=keep_runs, host=HOST, is_alive=is_alive, now=NOW)


def count(session: Session, table: type[Base]) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def sound(database: Database) -> bool:
    return not any(result.problems for result in check(database))


def example(position: int, video_id: str, version_id: int, title: str, content: bytes, channel_id: str) -> ExampleRow:
    digest = hashlib.sha256(content).hexdigest()
    return ExampleRow(position, video_id, channel_id, version_id, video_id, "test", title, digest, None)


def fill(session: Session) -> tuple[int, int, list[ExampleRow]]:
    """Two channels and a run on both; return the run's id, the snapshot's, and its examples."""
    add_channel(session)
    add_channel(session, "UC2", "@two", "Two")
    trained = add_video(session, "trained", title="Trained on", picture=b"trained", split="test", split_at=DAY_ONE)
    change_video(session, "trained", title="Trained on, later")
    add_video(session, "shared", title="Shared", picture=b"shared", split="train", split_at=DAY_ONE)
    add_video(session, "unused", title="Not trained on", picture=b"unused")
    other = add_video(session, "other", title="Shared", picture=b"shared", channel_id="UC2", split="test")
    session.add(
        PictureFailure(video_id="unused", reason="?", tries=1, first_failed_at=NOW, last_failed_at=NOW, next_try_at=NOW)
    )
    session.add_all(VideoReading(video_id=i, read_at=NOW, views=1) for i in ("trained", "other"))
    begin_sync(session, "UC2", "full", host=HOST, pid=1, now=NOW)
    session.add(SyncRun(channel_id="UC1", mode="full", status="complete", started_at=NOW, host=HOST, pid=1))
    examples = [
        example(0, "trained", trained, "Trained on", b"trained", "UC1"),
        example(1, "other", other, "Shared", b"shared", "UC2"),
    ]
    snapshot_id, _ = save_snapshot(session, "f" * 64, {"channels": []}, {}, examples)
    run_id = start_run(session, **RUN, snapshot_id=snapshot_id)
    rank = {"model": "tuned", "direction": "thumbnail_to_title", "split": "test", "score": 0.5, "top_score": 0.6}
    add_ranks(
        session,
        run_id,
        [
            {**rank, "video_id": "trained", "rank": 2, "top_video_id": "other"},
            {**rank, "video_id": "other", "rank": 1, "top_video_id": "other"},
        ],
    )
    add_evaluations(
        session,
        run_id,
        [
            {
                "model": "tuned",
                "scope": "UC1",
                "split": "test",
                "direction": "thumbnail_to_title",
                "metric": "recall@1",
                "k": 1,
                "value": 0.5,
                "n": 1,
                "low": None,
                "high": None,
            }
        ],
    )
    end_run(session, run_id, "done")
    for tower, contents in (("vision", (b"trained", b"shared", b"unused")), ("text", (b"Trained on", b"Shared"))):
        digests = [hashlib.sha256(content).hexdigest() for content in contents]
        write_features(session, "m" * 64, tower, dict.fromkeys(digests, b"\x00" * 4))  # type: ignore[arg-type]
    return run_id, snapshot_id, examples


def features(session: Session, tower: Any, *contents: bytes) -> set[bytes]:
    digests = {hashlib.sha256(content).hexdigest(): content for content in contents}
    return {digests[digest] for digest in read_features(session, "m" * 64, tower, list(digests), 1)}


def all_text(session: Session) -> str:
    """Every value of every table."""
    rows = [row for table in Base.metadata.sorted_tables for row in session.execute(select(table)).all()]
    return repr(rows)


def test_removal_deletes_the_data_and_keeps_the_metrics_of_runs(database: Database) -> None:
    with database.write() as session:
        run_id, snapshot_id, _ = fill(session)
        contents = contents_of(session, "UC1")
    assert (contents.videos, contents.versions, contents.thumbnails, contents.readings) == (3, 4, 2, 1)
    assert (contents.syncs, contents.examples, contents.runs) == (1, 1, (run_id,))
    remove(database)
    assert sound(database)
    with database.read() as session:
        text_left = all_text(session)
        for said in ("Trained on", "Not trained on", "@one", "One", "unused"):
            assert repr(said)[1:-1] not in text_left
        # Another channel shows this title and thumbnail, too.
        assert set(read_pictures(session, [hashlib.sha256(b"shared").hexdigest()]).values()) == {b"shared"}
        assert count(session, Picture) == 1
        assert features(session, "vision", b"trained", b"shared", b"unused") == {b"shared"}
        assert features(session, "text", b"Trained on", b"Shared") == {b"Shared"}
        assert [pair.video_id for pair in current_pairs(session)] == ["other"]
        assert (
            channel_ids(session) == [row.id for row in summaries(session)] == list(channel_titles(session)) == ["UC2"]
        )
        assert find_by_handle(session, "@one") is None
        with pytest.raises(NotFound):
            get_channel(session, "UC1")
        # The results of the runs.
        assert count(session, Rank) == 2
        assert session.scalars(select(Evaluation.value)).all() == [0.5]
        error = session.execute(text("SELECT video_id, title, top_title, rank FROM run_errors")).one()
        assert tuple(error) == ("trained", "", "Shared", 2)
        assert snapshot_pairs(session, snapshot_id, ["trained", "other"])["trained"][0] == ""
        with pytest.raises(ContentRemoved):
            load_examples(session, snapshot_id)
        # The video that a snapshot refers to keeps its split; nothing is left of the others.
        kept = session.get_one(Video, "trained")
        assert (kept.split, kept.published_at, kept.availability) == ("test", None, "gone")
        assert set(session.scalars(select(Video.id))) == {"trained", "other"}
        assert {(v.video_id, v.title, v.picture_sha256 is None) for v in session.scalars(select(VideoVersion))} == {
            ("trained", "", True),
            ("other", "Shared", False),
        }
        assert session.scalars(select(VideoReading.video_id)).all() == ["other"]
        assert session.scalars(select(SyncRun.channel_id)).all() == ["UC2"]
        assert {video.video_id for video in split_videos(session)} == {"trained", "other"}
    with pytest.raises(NotFound):
        remove(database)


def test_kept_runs_can_be_repeated_until_their_removal(database: Database) -> None:
    with database.write() as session:
        _, snapshot_id, examples = fill(session)
    remove(database, keep_runs=True)
    assert sound(database)
    with database.read() as session:
        assert load_examples(session, snapshot_id) == examples
        assert len(read_pictures(session, (row.picture_sha256 for row in examples))) == 2
        assert features(session, "vision", b"trained", b"shared", b"unused") == {b"trained", b"shared"}
        assert features(session, "text", b"Trained on", b"Shared") == {b"Trained on", b"Shared"}
        assert channel_ids(session) == ["UC2"]
        assert [pair.video_id for pair in current_pairs(session)] == ["other"]
        left = all_text(session)
        assert "Trained on, later" not in left
        assert "@one" not in left
        contents = contents_of(session, "UC1")
        assert (contents.videos, contents.versions, contents.thumbnails) == (0, 1, 1)
    remove(database)
    assert sound(database)
    with database.read() as session:
        assert "Trained on" not in all_text(session)
        with pytest.raises(ContentRemoved):
            load_examples(session, snapshot_id)


def test_without_runs_no_row_is_left(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "one", split="train")
        change_video(session, "one", title="Another", picture=b"another")
    remove(database)
    with database.read() as session:
        for table in (Channel, Video, VideoVersion, Picture, Feature):
            assert count(session, table) == 0


def test_a_channel_added_again_is_new_and_its_videos_keep_their_splits(database: Database) -> None:
    with database.write() as session:
        _, snapshot_id, examples = fill(session)
        channel = session.get_one(Channel, "UC1")
        channel.min_duration_s = 5
        channel.listed_at = channel.synced_at = channel.refreshed_at = NOW
    remove(database)
    with database.write() as session:
        save_channel(
            session,
            channel_id="UC1",
            handle="@one",
            title="One",
            uploads_playlist_id="UU1",
            api_item={},
            default_min_duration_s=180,
            default_thumbnail_size="maxres",
            now=NOW,
        )
        channel = get_channel(session, "UC1")
        assert (channel.removed_at, channel.added_at, channel.listed_at, channel.refreshed_at) == (
            None,
            NOW,
            None,
            None,
        )
        assert (channel.min_duration_s, channel.thumbnail_size, channel.handle) == (180, "maxres", "@one")
        # A new sync stores the same content.
        version_id = change_video(session, "trained", title="Trained on", picture=b"trained")
        assert session.get_one(Video, "trained").split == "test"
        # The same content is the same snapshot, so it can be used again.
        again = [example(0, "trained", version_id, "Trained on", b"trained", "UC1"), examples[1]]
        assert save_snapshot(session, "f" * 64, {"channels": []}, {}, again) == (snapshot_id, False)
        assert load_examples(session, snapshot_id) == again
        # An emptied version does not count as the title before a change.
        assert session.execute(text("SELECT * FROM changes")).all() == []
    assert sound(database)
    with database.read() as session:
        assert count(session, SnapshotExample) == 2


def test_a_channel_in_use_is_not_removed(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        add_video(session, "one")
        sync_id = begin_sync(session, "UC1", "full", host=HOST, pid=7, now=NOW)
    with pytest.raises(InUse):
        remove(database, is_alive=alive)
    with database.write() as session:
        # On another machine, with a recent heartbeat.
        session.get_one(SyncRun, sync_id).host = "elsewhere"
    with pytest.raises(InUse):
        remove(database)
    with database.write() as session:
        session.get_one(SyncRun, sync_id).seen_at = NOW - 2 * LEASE
        run_id = start_run(session, **RUN)
    with pytest.raises(InUse):
        remove(database, is_alive=alive)
    with database.read() as session:
        assert count(session, Video) == count(session, VideoVersion) == count(session, Picture) == 1
        assert session.get_one(TrainingRun, run_id).status == "running"
    remove(database)
    with database.read() as session:
        assert count(session, Channel) == 0


def test_an_unknown_channel_is_not_found(database: Database) -> None:
    with pytest.raises(NotFound):
        remove(database, "UC404")


KILLED = """
import os, signal, sys
from store.db import open_database
from store.youtube import remove_channel
from tests.store.test_removal import HOST, NOW, dead
with open_database(sys.argv[1]).write() as session:
    remove_channel(session, "UC1", keep_runs=False, host=HOST, is_alive=dead, now=NOW)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.processes
def test_a_killed_removal_is_rolled_back(database: Database) -> None:
    with database.write() as session:
        fill(session)
    with database.read() as session:
        before = all_text(session)
    done = subprocess.run([sys.executable, "-c", KILLED, url_of(database)], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    with database.read() as session:
        assert all_text(session) == before
    remove(database)
    assert sound(database)
