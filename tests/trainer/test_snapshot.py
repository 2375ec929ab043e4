"""Snapshots end to end on real stores: their content, what is left out, and that they never change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import update

from store.db import Database, open_database, rows_as_dicts
from store.tables import Video
from store.training import channel_titles, load_examples
from tests.store.builders import add_channel, add_video, change_video, url_of
from tests.trainer.tiny import fill
from trainer.data import mine_negatives, normalised, snapshot
from trainer.errors import BadSetting, NotEnoughPairs
from trainer.settings import STRATEGIES, Strategy, TrainSettings


def embed(titles: Sequence[str]) -> np.ndarray:
    """Random vectors that only depend on the title."""
    return np.stack(
        [np.random.default_rng(list(title.encode())).standard_normal(8).astype(np.float32) for title in titles]
    )


def make(database: Database, settings: TrainSettings) -> tuple[int, bool]:
    chosen = snapshot.select_pairs(database, settings.channels)
    rows = mine_negatives(chosen, settings, embed)
    return snapshot.write_snapshot(database, chosen, rows, settings, "f" * 64)


def splits(database: Database) -> dict[str, str]:
    with database.read() as session:
        return {row["video_id"]: row["split"] for row in rows_as_dicts(session, "SELECT video_id, split FROM pairs")}


@pytest.mark.slow
def test_a_first_snapshot_is_split_like_the_recipe(database: Database) -> None:
    fill(database, 76)
    chosen = snapshot.select_pairs(database)
    assert chosen.counts() == {"train": 53, "valid": 11, "test": 12}
    assert chosen.excluded == {}
    assert {row.video_id: row.split for row in chosen.examples} == splits(database)
    assert [row.position for row in chosen.examples] == list(range(76))
    assert chosen.examples[0].video_id == "UC1-075", "newest first"


def test_later_videos_do_not_change_splits(database: Database) -> None:
    fill(database, 20)
    before = {row.video_id: row.split for row in snapshot.select_pairs(database).examples}
    fill_more(database, 20, 40)
    after = snapshot.select_pairs(database)
    assert before.items() <= {row.video_id: row.split for row in after.examples}.items()
    assert after.counts() == {"train": 28, "valid": 6, "test": 6}


def fill_more(database: Database, first: int, end: int) -> None:
    with database.write() as session:
        for number in range(first, end):
            add_video(session, f"UC1-{number:03}", day=number)


@pytest.mark.parametrize("negatives", STRATEGIES)
def test_triplets_can_be_rebuilt_after_titles_changed(sqlite_database: Database, negatives: Strategy) -> None:
    fill(sqlite_database, 30)
    snapshot_id, new = make(sqlite_database, TrainSettings(negatives=negatives))
    assert new
    with sqlite_database.read() as session:
        before = load_examples(session, snapshot_id)
    with sqlite_database.write() as session:
        for row in before[::2]:
            change_video(
                session, row.video_id, title="renamed " + row.video_id, picture=b"redrawn " + row.video_id.encode()
            )
    with sqlite_database.read() as session:
        assert load_examples(session, snapshot_id) == before
    by_position = {row.position: row for row in before}
    for row in before:
        if negatives == "none":
            assert row.negative_position is None
        else:
            assert row.negative_position is not None
            assert by_position[row.negative_position].split == row.split
            assert by_position[row.negative_position].title != row.title
    other, new = make(sqlite_database, TrainSettings(negatives=negatives))
    assert new
    assert other != snapshot_id


@pytest.mark.parametrize("negatives", [name for name in STRATEGIES if name != "none"])
def test_no_negative_has_the_group_or_the_title_of_its_row(sqlite_database: Database, negatives: Strategy) -> None:
    """Six groups of six videos with one title in different spellings, or with one thumbnail."""
    fill(sqlite_database, 30)
    with sqlite_database.write() as session:
        for group in range(6):
            shared = f"picture {group}".encode()
            for number, (title, picture) in enumerate([("Live! ", b""), (" LIVE!  ", b""), ("live! ", shared)]):
                add_video(session, f"a-{group}{number}", day=number, title=f"{title}{group}", picture=picture)
                add_video(session, f"b-{group}{number}", day=number, picture=shared)
    chosen = snapshot.select_pairs(sqlite_database)
    rows = mine_negatives(chosen, TrainSettings(negatives=negatives), embed)
    sizes = Counter(row.group_id for row in rows)
    assert sorted(sizes.values()) == [1] * 30 + [6] * 6
    for row in rows:
        assert row.negative_position is not None
        other = rows[row.negative_position]
        assert other.group_id != row.group_id
        assert normalised(other.title) != normalised(row.title)
        assert other.picture_sha256 != row.picture_sha256


def test_equal_data_and_settings_give_one_snapshot(database: Database) -> None:
    fill(database, 12)
    first, _ = make(database, TrainSettings())
    assert make(database, TrainSettings(seed=3, epochs=9, lr=1.0)) == (first, False)
    assert make(database, TrainSettings(negatives="random"))[1]
    assert make(database, TrainSettings(negatives="random", seed=3))[1]
    assert not make(database, TrainSettings(negatives="random", seed=3))[1]


def test_groups_that_merge_later_keep_their_splits_without_leaks(database: Database) -> None:
    fill(database, 20)
    before = {row.video_id: row.split for row in snapshot.select_pairs(database).examples}
    one_of = {split: next(video for video, where in before.items() if where == split) for split in ("train", "test")}
    with database.write() as session:
        for video in one_of.values():
            change_video(session, video, title="Now the same")
    after = snapshot.select_pairs(database)
    assert after.excluded == {"group_in_more_held_out_split": 1}
    assert {row.video_id for row in after.examples} == before.keys() - {one_of["train"]}
    assert splits(database) == before
    assert any("1 pair left out" in text for text in snapshot.require_trainable(after))


def test_groups_span_channels_even_if_one_channel_is_selected(database: Database) -> None:
    fill(database, 20)
    fill(database, 20, "UC2")
    with database.write() as session:
        for number in range(20):
            change_video(session, f"UC2-{number:03}", title=f"Shared {number}")
            change_video(session, f"UC1-{number:03}", title=f"shared  {number}")
    snapshot.select_pairs(database, ["@uc1"])
    found = splits(database)
    assert all(found[f"UC1-{number:03}"] == found[f"UC2-{number:03}"] for number in range(20))


def test_a_reupload_of_a_vanished_video_gets_its_split(database: Database) -> None:
    fill(database, 20)
    before = {row.video_id: row.split for row in snapshot.select_pairs(database).examples}
    with database.write() as session:
        session.execute(update(Video).values(availability="gone"))
        titles = rows_as_dicts(session, "SELECT id, title FROM video")
        for row in titles:
            add_video(session, "again-" + row["id"], title=row["title"])
    after = {row.video_id: row.split for row in snapshot.select_pairs(database).examples}
    assert after == {f"again-{video}": split for video, split in before.items()}


def test_a_channel_is_named_by_id_or_handle(database: Database) -> None:
    fill(database, 10)
    fill(database, 10, "UC2")
    for name in ("UC2", "@uc2", "uc2", "@UC2"):
        assert {row.channel_id for row in snapshot.select_pairs(database, [name]).examples} == {"UC2"}
    with pytest.raises(BadSetting, match="'@nobody'.*@uc1, @uc2"):
        snapshot.select_pairs(database, ["@nobody"])


def test_an_empty_store_is_an_error_with_advice(database: Database) -> None:
    with pytest.raises(NotEnoughPairs, match="no channels"):
        snapshot.select_pairs(database)


def test_a_channel_without_thumbnails_is_an_error(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        for number in range(5):
            add_video(session, str(number), picture=None)
    with pytest.raises(NotEnoughPairs, match="5 no picture"):
        snapshot.select_pairs(database)


@pytest.mark.parametrize(("n", "train"), [(1, 0), (2, 1)])
def test_too_few_pairs_are_an_error(database: Database, n: int, train: int) -> None:
    fill(database, n)
    with pytest.raises(NotEnoughPairs, match=rf"^the training split has {train} of {n} pairs?; at least 2"):
        snapshot.require_trainable(snapshot.select_pairs(database))


def test_equal_titles_cannot_be_trained_on(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        for number in range(10):
            add_video(session, str(number), title="Live!" if number % 2 else " LIVE! ")
    with pytest.raises(NotEnoughPairs, match=r"all 10 training pairs have equal titles"):
        snapshot.require_trainable(snapshot.select_pairs(database))


def test_videos_with_one_common_thumbnail_cannot_be_trained_on(database: Database) -> None:
    with database.write() as session:
        add_channel(session)
        for number in range(10):
            add_video(session, str(number), picture=b"the same")
    with pytest.raises(NotEnoughPairs, match=r"equal titles or thumbnails"):
        snapshot.require_trainable(snapshot.select_pairs(database))


def test_missing_results_give_warnings(database: Database) -> None:
    fill(database, 3)
    fill(database, 1, "UC2")
    told = snapshot.require_trainable(snapshot.select_pairs(database))
    assert any("valid split is empty" in text for text in told)
    assert any("channel UC2 has only one pair" in text for text in told)


@pytest.mark.slow
def test_two_concurrent_trainers_assign_the_same_splits(database: Database) -> None:
    fill(database, 60)
    url = url_of(database)

    def other(_number: int) -> tuple[int, dict[str, str]]:
        opened = open_database(url)
        try:
            snapshot_id, _ = make(opened, TrainSettings())
            with opened.read() as session:
                return snapshot_id, {row.video_id: row.split for row in load_examples(session, snapshot_id)}
        finally:
            opened.close()

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(other, range(4)))
    assert all(result == results[0] for result in results)
    assert results[0][1] == splits(database)
    with database.read() as session:
        assert list(channel_titles(session)) == ["UC1"]
