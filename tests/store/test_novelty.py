"""Which pairs count as new since a run: new and changed videos, but no pair that is never trained on."""

from __future__ import annotations

import hashlib

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from store.db import Database
from store.tables import Video
from store.training import ExampleRow, NewPairs, current_pairs, end_run, new_pairs_since, save_snapshot, start_run
from tests.store.builders import add_channel, add_video, change_video


@pytest.fixture
def filled(database: Database) -> Database:
    """Two channels: five videos and one."""
    with database.write() as session:
        add_channel(session)
        add_channel(session, "UC2", "@two", "Two")
        for number in range(5):
            add_video(session, f"v{number}", day=number)
        add_video(session, "other", channel_id="UC2")
    return database


def add_run(
    session: Session,
    status: str = "done",
    *,
    without: tuple[str, ...] = (),
    trial: int | None = None,
    decision: str | None = None,
) -> int:
    """A run on all current pairs except `without`."""
    rows = [pair for pair in current_pairs(session) if pair.video_id not in without]
    examples = [
        ExampleRow(
            at,
            pair.video_id,
            pair.channel_id,
            pair.version_id,
            pair.video_id,
            "train",
            pair.title,
            pair.picture_sha256,
            None,
        )
        for at, pair in enumerate(rows)
    ]
    fingerprint = hashlib.sha256(repr([(row.video_id, row.version_id) for row in examples]).encode()).hexdigest()
    snapshot_id, _new = save_snapshot(session, fingerprint, {}, {}, examples)
    known = {"base_model": "m", "trained": "all", "seed": 1, "settings": {}, "packages": {}, "host": "h", "pid": 1}
    run_id = start_run(session, **known, snapshot_id=snapshot_id, trial=trial)
    if status != "running":
        end_run(session, run_id, status, decision=decision)
    return run_id


def new(database: Database, run_id: int | None, *channels: str) -> NewPairs:
    with database.read() as session:
        return new_pairs_since(session, run_id, channels)


def test_without_a_run_all_pairs_are_new(filled: Database) -> None:
    assert new(filled, None) == NewPairs(videos=6, changed=0)
    assert new(filled, None, "UC2") == NewPairs(videos=1, changed=0)


def test_new_and_changed_pairs_are_counted_by_channel(filled: Database) -> None:
    with filled.write() as session:
        run_id = add_run(session)
    assert new(filled, run_id) == NewPairs(0, 0)
    with filled.write() as session:
        add_video(session, "v5")
        add_video(session, "without a picture", picture=None)
        add_video(session, "a short", kind="short")
        change_video(session, "v0", title="Another title")
        change_video(session, "v1", picture=b"another picture")
        change_video(session, "other", title="Another", picture=b"both")
    assert new(filled, run_id) == NewPairs(videos=1, changed=3)
    assert new(filled, run_id).total == 4
    assert new(filled, run_id, "UC2") == NewPairs(videos=0, changed=1)
    assert new(filled, run_id, "UC1", "UC2") == NewPairs(videos=1, changed=3)


def test_a_restored_title_is_not_new(filled: Database) -> None:
    with filled.write() as session:
        run_id = add_run(session)
        change_video(session, "v0", title="For a day")
        change_video(session, "v0", title="The title of v0")
    assert new(filled, run_id) == NewPairs(0, 0)


def test_a_vanished_video_is_not_new(filled: Database) -> None:
    with filled.write() as session:
        run_id = add_run(session, without=("v0", "v1"))
        session.execute(update(Video).where(Video.id == "v0").values(availability="gone"))
    assert new(filled, run_id) == NewPairs(1, 0)


def test_pairs_of_a_later_run_that_was_not_better_are_not_new(filled: Database) -> None:
    """Otherwise an unsuccessful retraining would be repeated every night on the same pairs."""
    with filled.write() as session:
        champion = add_run(session)
        add_video(session, "v5")
        for status in ("failed", "interrupted", "running"):
            add_run(session, status)
        add_run(session, trial=0)
    assert new(filled, champion) == NewPairs(1, 0), "none of these is a finished run with a model"
    with filled.write() as session:
        later = add_run(session, decision="no better")
        add_video(session, "v6")
    assert new(filled, champion) == new(filled, later) == NewPairs(1, 0)


def test_pairs_of_a_later_run_that_was_not_compared_are_new(filled: Database) -> None:
    """A run of `train` with other settings must not prevent a retraining on the new videos."""
    with filled.write() as session:
        champion = add_run(session)
        add_video(session, "v5")
        by_hand = add_run(session)
    assert new(filled, champion) == NewPairs(1, 0)
    assert new(filled, by_hand) == NewPairs(0, 0), "once the run is the champion"


def test_earlier_runs_are_ignored(filled: Database) -> None:
    with filled.write() as session:
        add_run(session)
        champion = add_run(session, without=("v3",))
    assert new(filled, champion) == NewPairs(1, 0)


def test_a_pair_excluded_from_snapshots_is_not_new(filled: Database) -> None:
    with filled.write() as session:
        run_id = add_run(session, without=("v0", "v1"))
        change_video(session, "v2", title="Another title")
    with filled.read() as session:
        assert new_pairs_since(session, run_id, left_out={"v0", "v2"}) == NewPairs(1, 0)
