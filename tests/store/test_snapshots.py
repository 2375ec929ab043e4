"""Snapshots: stored once per content, never changed, and rebuilt exactly after their videos have changed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.db import Database, open_database
from store.errors import NotFound, StoreError
from store.tables import Snapshot, SnapshotExample
from store.training import (
    ExampleRow,
    SnapshotSpan,
    current_pairs,
    load_examples,
    newest_snapshot,
    save_snapshot,
    snapshot_info,
    snapshot_span,
)
from store.types import utc_now
from tests.store.builders import DAY_ONE, NO_IDS, add_channel, add_video, change_video, url_of

SETTINGS = {"negatives": "least-similar", "seed": 42, "channels": ["UC1"], "title_model": None}
EXCLUDED = {"group_in_several_splits": 2}
SPLITS = ["train"] * 5 + ["valid"] * 2 + ["test"]


def fill(session: Session) -> list[ExampleRow]:
    """Eight pairs of one channel and their examples."""
    add_channel(session)
    for index in range(8):
        add_video(session, f"v{index}", day=-index)
    negatives = [1, 2, 3, 4, 0, 6, 5, None]
    return [
        ExampleRow(position, *row, SPLITS[position], pair.title, pair.picture_sha256, negatives[position])
        for position, pair in enumerate(current_pairs(session))
        for row in [(pair.video_id, pair.channel_id, pair.version_id, pair.video_id)]
    ]


def test_a_saved_snapshot_is_loaded_unchanged(database: Database) -> None:
    before = utc_now()
    with database.write() as session:
        examples = fill(session)
        snapshot, is_new = save_snapshot(session, "f" * 64, SETTINGS, EXCLUDED, examples)
    assert is_new
    with database.read() as session:
        assert load_examples(session, snapshot) == examples
        info = snapshot_info(session, snapshot)
    assert (info.id, info.fingerprint) == (snapshot, "f" * 64)
    assert info.counts == {"train": 5, "valid": 2, "test": 1}
    assert info.settings == SETTINGS
    assert info.excluded == EXCLUDED
    assert before <= info.created_at <= utc_now()


def test_examples_are_loaded_in_order_of_their_positions(database: Database) -> None:
    with database.write() as session:
        examples = fill(session)
        snapshot, _ = save_snapshot(session, "f" * 64, {}, {}, examples[::-1])
    with database.read() as session:
        assert load_examples(session, snapshot) == examples


def test_a_triplet_is_rebuilt_after_titles_and_thumbnails_changed(database: Database) -> None:
    with database.write() as session:
        examples = fill(session)
        snapshot, _ = save_snapshot(session, "f" * 64, SETTINGS, {}, examples)
    with database.write() as session:
        for index in range(8):
            change_video(session, f"v{index}", title=f"Renamed {index}", picture=b"new %d" % index)
        change_video(session, "v0", title="Renamed again")
    with database.read() as session:
        assert load_examples(session, snapshot) == examples
        now = {pair.video_id: pair.title for pair in current_pairs(session)}
    assert now["v0"] == "Renamed again"
    titles = {example.position: example.title for example in examples}
    assert titles[examples[0].negative_position or 0] == "The title of v1"


def test_the_same_content_is_stored_once_and_never_changed(database: Database) -> None:
    with database.write() as session:
        examples = fill(session)
        first, _ = save_snapshot(session, "a" * 64, SETTINGS, EXCLUDED, examples)
    with database.read() as session:
        made = snapshot_info(session, first)
    with database.write() as session:
        assert save_snapshot(session, "a" * 64, {"other": 1}, {}, examples[:3]) == (first, False)
        other, is_new = save_snapshot(session, "b" * 64, SETTINGS, {}, examples[:3])
        assert is_new
        assert other != first
    with database.read() as session:
        assert snapshot_info(session, first) == made
        assert load_examples(session, first) == examples
        assert load_examples(session, other) == examples[:3]
        assert newest_snapshot(session) == other


def test_equal_snapshots_saved_concurrently_are_one(database: Database) -> None:
    with database.write() as session:
        examples = fill(session)
    barrier = threading.Barrier(4)

    def save(number: int) -> list[tuple[int, bool]]:
        store = open_database(url_of(database))
        saved = []
        try:
            for turn in range(5):
                barrier.wait(30)
                with store.write() as session:
                    saved.append(save_snapshot(session, f"{turn:064}", {}, {}, examples))
                    # The slower of two writers continues in the same transaction.
                    assert load_examples(session, saved[-1][0]) == examples
        finally:
            store.close()
        return saved

    with ThreadPoolExecutor(4) as pool:
        results = [future.result(60) for future in [pool.submit(save, number) for number in range(4)]]
    for turn in zip(*results, strict=True):
        assert len({snapshot for snapshot, _ in turn}) == 1
        assert sorted(is_new for _, is_new in turn) == [False, False, False, True]
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Snapshot)) == 5
        assert session.scalar(select(func.count()).select_from(SnapshotExample)) == 5 * len(examples)


def test_a_failed_save_leaves_nothing(database: Database) -> None:
    with database.write() as session:
        examples = fill(session)
    with pytest.raises(StoreError), database.write() as session:
        save_snapshot(session, "f" * 64, {}, {}, [*examples, examples[0]])
    with database.read() as session:
        assert newest_snapshot(session) is None
        assert session.scalar(select(func.count()).select_from(SnapshotExample)) == 0


def test_a_snapshot_may_be_empty(database: Database) -> None:
    with database.write() as session:
        snapshot, is_new = save_snapshot(session, "0" * 64, {}, {}, [])
    with database.read() as session:
        assert is_new
        assert load_examples(session, snapshot) == []
        assert snapshot_info(session, snapshot).counts == {"train": 0, "valid": 0, "test": 0}


def test_an_unknown_snapshot_is_named(database: Database) -> None:
    with database.read() as session:
        assert newest_snapshot(session) is None
        for number in (7, *NO_IDS):
            with pytest.raises(NotFound, match=f"there is no snapshot {number}; 'thumbtune runs' shows"):
                snapshot_info(session, number)
            with pytest.raises(NotFound, match=f"there is no snapshot {number}"):
                load_examples(session, number)


def test_the_span_of_a_snapshot(database: Database) -> None:
    with database.write() as session:
        examples = [replace(row, group_id="g") if row.position < 3 else row for row in fill(session)]
        snapshot, _ = save_snapshot(session, "f" * 64, {}, {}, examples)
        empty, _ = save_snapshot(session, "0" * 64, {}, {}, [])
    with database.read() as session:
        span = snapshot_span(session, snapshot)
        assert (span.channels, span.groups) == (1, 6)
        assert (span.first_published_at, span.last_published_at) == (DAY_ONE - timedelta(days=7), DAY_ONE)
        assert snapshot_span(session, empty) == SnapshotSpan(0, 0, None, None)
        with pytest.raises(NotFound, match="there is no snapshot 9"):
            snapshot_span(session, 9)
