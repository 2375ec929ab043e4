"""Splits: the recipe's split for the first videos, proportions for later videos, whole groups, and no changes."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from trainer.data import SPLITS, normalised, numbers_of
from trainer.data.splits import Member, assign, first_counts, group_homes, groups_of, title_keys

PROPORTIONS = {"train": 0.7, "valid": 0.15, "test": 0.15}


def ungrouped(ids: Iterable[str], splits: dict[str, str] | None = None, channel: str = "UC1") -> list[Member]:
    known = splits or {}
    return [Member(video, channel, video, known.get(video)) for video in ids]


def recipe_split(ids: Sequence[str]) -> dict[str, str]:
    """The published recipe: shuffle the table, then cut it at 70 % and 85 %."""
    shuffled = pd.DataFrame({"id": ids}).sample(frac=1, random_state=42)["id"].tolist()
    n_train, n_valid = int(0.7 * len(ids)), int(0.15 * len(ids))
    names = ["train"] * n_train + ["valid"] * n_valid + ["test"] * (len(ids) - n_train - n_valid)
    return dict(zip(shuffled, names, strict=True))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 13, 20, 40, 76, 99, 120, 1000])
def test_a_first_snapshot_is_split_like_the_recipe(n: int) -> None:
    ids = [f"video {index}" for index in range(n)]
    splits = assign(ungrouped(ids))
    assert splits == recipe_split(ids)
    counts = Counter(splits.values())
    assert [counts[split] for split in SPLITS] == [int(0.7 * n), int(0.15 * n), n - int(0.7 * n) - int(0.15 * n)]


def test_the_recipes_76_videos_give_its_53_11_12() -> None:
    assert first_counts(76) == {"train": 53, "valid": 11, "test": 12}


def test_no_videos_have_no_splits() -> None:
    assert assign([]) == {}
    assert groups_of([]) == {}


def test_each_channel_is_split_separately() -> None:
    one = [f"a{index}" for index in range(60)]
    two = [f"b{index}" for index in range(20)]
    mixed = ungrouped(two[:10], channel="UC2") + ungrouped(one, channel="UC1") + ungrouped(two[10:], channel="UC2")
    assert assign(mixed) == recipe_split(one) | recipe_split(two)


def test_a_new_channel_is_split_like_the_recipe_while_another_grows() -> None:
    old = [f"a{index}" for index in range(20)]
    splits = assign(ungrouped(old))
    new = [f"b{index}" for index in range(40)]
    given_now = assign(ungrouped(["a20"]) + ungrouped(old, splits) + ungrouped(new, channel="UC2"))
    assert set(given_now) == {"a20", *new}
    assert {video: given_now[video] for video in new} == recipe_split(new)


def test_a_video_that_is_not_a_pair_gets_no_split_and_does_not_count() -> None:
    pairs = [f"video {index}" for index in range(20)]
    shorts = [Member(f"short {index}", "UC1", f"short {index}", None, is_pair=False) for index in range(20)]
    assert assign([*shorts, *ungrouped(pairs)]) == recipe_split(pairs)


def test_series_stay_whole_and_single_videos_fill_the_counts_exactly() -> None:
    n = 200
    members = [
        Member(f"v{index:03}", "UC1", f"v{index % 40:03}" if index < 100 else f"v{index:03}", None)
        for index in range(n)
    ]
    splits = assign(members)
    assert Counter(splits.values()) == first_counts(n)
    homes = defaultdict(set)
    for member in members:
        homes[member.group_id].add(splits[member.video_id])
    assert all(len(home) == 1 for home in homes.values())
    # Series are held out about as often as single videos: 12 of 40 expected.
    assert 6 <= sum(splits[f"v{index:03}"] != "train" for index in range(40)) <= 18


@pytest.mark.parametrize("size", [16, 30, 60, 71, 99, 100])
def test_a_very_large_group_goes_to_train(size: int) -> None:
    """For any position of the group in the shuffle; the other videos fill valid and test as far as possible."""
    for first in range(0, 101 - size, 3):
        group = range(first, first + size)
        members = [Member(f"v{row}", "UC1", "group" if row in group else f"v{row}", None) for row in range(100)]
        splits = assign(members)
        assert {splits[f"v{row}"] for row in group} == {"train"}
        assert Counter(splits.values())["train"] == max(size, 70)


@pytest.mark.parametrize("first", range(1, 41))
def test_later_videos_keep_the_proportions(first: int) -> None:
    """From any first size, one video at a time, up to 240."""
    names = [f"video {index}" for index in range(240)]  # oldest first
    splits = assign(ungrouped(reversed(names[:first])))
    splits |= assign(ungrouped(reversed(names), splits))
    counts: Counter[str] = Counter(splits[name] for name in names[:first])
    for total, name in enumerate(names[first:], start=first + 1):
        counts[splits[name]] += 1
        for split in SPLITS:
            off = abs(counts[split] - PROPORTIONS[split] * total)
            assert off < 2, (total, split)
            assert off < 1 or total < first + 20, (total, split)


@settings(deadline=None)
@given(st.integers(1, 30), st.lists(st.integers(1, 12), max_size=6))
def test_growing_in_small_steps_or_at_once_gives_the_same_splits(first: int, steps: list[int]) -> None:
    names = [f"video {index}" for index in range(first + sum(steps))]  # oldest first
    start = assign(ungrouped(reversed(names[:first])))
    slowly = dict(start)
    end = first
    for step in steps:
        end += step
        slowly |= assign(ungrouped(reversed(names[:end]), slowly))
    assert slowly == start | assign(ungrouped(reversed(names), start))


Upload = tuple[int, int, int, bool]  # channel, title, picture, whether it can be a pair


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=25),
            st.lists(st.tuples(st.integers(0, 100), st.integers(0, 60)), max_size=4),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_no_upload_or_new_title_changes_a_split(
    steps: list[tuple[list[Upload], list[tuple[int, int]]]],
) -> None:
    """Channels grow and rename videos; groups form, grow and join across channels and splits."""
    videos: dict[str, list[int]] = {}  # id -> [channel, title, picture, is pair]; oldest first
    splits: dict[str, str] = {}
    for uploads, renames in steps:
        for channel, title, picture, is_pair in uploads:
            videos[f"v{len(videos):04}"] = [channel, title, picture, is_pair]
        for which, title in renames:
            if videos:
                videos[sorted(videos)[which % len(videos)]][1] = title
        groups = groups_of((video, f"title {row[1]}", f"picture {row[2]}") for video, row in videos.items())
        members = [
            Member(video, f"UC{row[0]}", groups[video], splits.get(video), is_pair=bool(row[3]))
            for video, row in reversed(videos.items())
        ]
        before = group_homes(members)
        new = assign(members)

        assert new == assign(members)
        assert set(new) == {video for video, row in videos.items() if row[3] and video not in splits}
        splits |= new
        inside: dict[str, set[str]] = defaultdict(set)
        for video, split in splits.items():
            inside[groups[video]].add(split)
        for group, found in inside.items():
            if group not in before:
                assert len(found) == 1
        for video, split in new.items():
            if groups[video] in before:
                assert split == before[groups[video]][0]


def test_a_new_video_gets_the_split_of_its_group_despite_the_proportions() -> None:
    old = [f"video {index}" for index in range(40)]
    splits = assign(ungrouped(old))
    home = next(video for video in old if splits[video] == "test")
    reuploads = [Member(f"again {index}", "UC1", home, None) for index in range(30)]
    others = [f"other {index}" for index in range(10)]
    now = [*reuploads, *ungrouped(others), *ungrouped(old, splits)]
    given_now = assign(now)
    assert {given_now[member.video_id] for member in reuploads} == {"test"}
    # The channel then has far too few training videos: all free videos go there.
    assert {given_now[video] for video in others} == {"train"}


def test_a_group_has_one_split_across_channels() -> None:
    old = ungrouped(["a1"], {"a1": "valid"})
    new = [Member("b1", "UC2", "a1", None), *ungrouped([f"b{index}" for index in range(2, 11)], channel="UC2")]
    given_now = assign([*new, *old])
    assert given_now["b1"] == "valid"
    assert Counter(given_now.values()) == first_counts(10)


def test_a_reupload_gets_the_split_of_the_vanished_video() -> None:
    gone = Member("gone", "UC1", "again", "test", is_pair=False)
    kept = ungrouped(["kept"], {"kept": "train"})
    assert assign([Member("again", "UC1", "again", None), *kept, gone]) == {"again": "test"}


def test_videos_of_two_splits_keep_their_splits_when_they_share_a_title() -> None:
    members = [Member("a", "UC1", "a", "train"), Member("b", "UC1", "a", "test"), Member("c", "UC1", "c", "valid")]
    assert assign(members) == {}
    assert group_homes(members) == {"a": ("test", True), "c": ("valid", False)}
    # A third video gets the split in which no held-out pair is trained on.
    assert assign([Member("d", "UC1", "a", None), *members]) == {"d": "test"}
    members[1] = Member("b", "UC1", "a", "valid")
    assert assign([Member("d", "UC1", "a", None), *members]) == {"d": "valid"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello World", "  hello \t WORLD\n"),
        ("Top 10 tips", "Top\u00a010\u2003tips"),  # no-break and em space
        ("ＨＥＬＬＯ", "hello"),  # full width
        ("Straße", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),  # composed, and letter + combining accent
        ("½ price", "1⁄2 PRICE"),
        ("№ 5", "No 5"),
        ("\u0390", "\u03aa\u0301"),  # Greek small iota with dialytika and tonos, and its capital
    ],
)
def test_equivalent_titles_have_equal_keys(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(("one", "other"), [("Part 1", "Part 2"), ("a b", "ab"), ("resume", "résumé"), ("Go", "Go!")])
def test_different_titles_stay_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@pytest.mark.slow
@settings(deadline=None)
@given(st.text())
def test_normalising_twice_changes_nothing(title: str) -> None:
    assert normalised(normalised(title)) == normalised(title)


Row = tuple[str, str, str | None]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", " ", "one", "ONE", "two", "Two ", "three", "four"]),
            st.sampled_from([None, "p1", "p2", "p3", "p4", "p5"]),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_groups_are_the_connected_components(facts: list[tuple[str, str | None]], shuffler: object) -> None:
    rows: list[Row] = [(f"v{index:02}", title, picture) for index, (title, picture) in enumerate(facts)]
    shuffler.shuffle(rows)  # type: ignore[attr-defined]
    linked = np.zeros((len(rows), len(rows)), dtype=bool)
    for (i, one), (j, other) in combinations(enumerate(rows), 2):
        same_title = one[1].strip() != "" and one[1].strip().lower() == other[1].strip().lower()
        linked[i, j] = same_title or (one[2] is not None and one[2] == other[2])
    expected = {}
    if rows:
        labels = connected_components(linked, directed=False)[1]
        for label in set(labels):
            inside = [row[0] for row, its in zip(rows, labels, strict=True) if its == label]
            expected.update(dict.fromkeys(inside, min(inside)))
    assert groups_of(rows) == expected


def test_groups_are_transitive_and_named_by_the_smallest_id() -> None:
    chain = [("d", "one", "p1"), ("c", "two", "p1"), ("b", "Two", "p2"), ("a", "three", "p2"), ("z", "alone", None)]
    assert groups_of(chain) == {"a": "a", "b": "a", "c": "a", "d": "a", "z": "z"}


def test_titles_of_white_space_that_are_pairs_are_equal() -> None:
    """Empty titles and titles of spaces, which the view `pairs` leaves out, do not join groups."""
    rows = [("a", "\u3000", None), ("b", "\t", None), ("c", " \u00a0", None), ("d", "", None), ("e", "  ", None)]
    assert groups_of(rows) == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e"}


def test_equal_labels_have_equal_numbers() -> None:
    assert numbers_of(["b", "a", "b", "a\0", "", "a"]).tolist() == [0, 1, 0, 2, 3, 1]
    assert numbers_of([]).tolist() == []


def test_a_title_never_joins_a_thumbnail_with_the_same_text() -> None:
    assert groups_of([("a", "same", "other"), ("b", "different", "same")]) == {"a": "a", "b": "b"}


def test_a_long_chain_of_shared_thumbnails_and_titles_is_one_group() -> None:
    """20,000 videos, each linked to the next: no recursion, and no quadratic time."""
    n = 20_000
    chain = [(f"v{index:05}", f"title {index // 2}", f"picture {(index + 1) // 2}") for index in range(n)]
    assert set(groups_of(chain).values()) == {"v00000"}
    assert set(groups_of(reversed(chain)).values()) == {"v00000"}


@pytest.mark.parametrize(
    "other",
    [
        "Baking bread at home (re-upload)",
        "Baking bread at home [Reupload]",
        "Baking bread at home re-uploaded",
        "BAKING BREAD AT HOME!!!",
        "Baking bread, at home \N{SMILING FACE WITH OPEN MOUTH}",
        "Baking bread at home (sound fixed)",
        "Baking bread at home | 4K",
        "Baking bread at home (HD) (repost)",
        "[REUPLOAD] Baking bread at home",
        "Re-upload: Baking bread at home",
        "Baking bread at home (resubido)",
        "Baking bread at home [RÉUPLOAD]",
        "【再アップ】Baking bread at home",
        "Baking bread at home（重新上传）",
        "Baking bread at home (перезалив)",
        "Baking bread at home - part 2",
        "Baking bread at home PART2",
        "Baking bread at home (Pt. II)",
        "Baking bread at home #2",
    ],
)
def test_titles_that_differ_only_in_an_ending_are_equal(other: str) -> None:
    assert set(groups_of([("a", "Baking bread at home", "1"), ("b", other, "2")]).values()) == {"a"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Learn C", "Learn C++"),
        ("Learn C", "Learn C#"),
        ("Version 1.5", "Version 15"),
        ("My old clock", "My old clock fixed"),
        ("A gaming PC for 1080p", "A gaming PC for 4K"),
        ("Baking bread at home", "Baking bread at work"),
        ("Top 5 ideas", "Top 7 ideas"),
        ("Building a boat, episode 12", "Building a boat, episode 13"),
        ("Building a boat #9", "Building a boat"),
        ("Building a boat part2", "Building a boat part3"),
        ("Upload: a day at work", "A day at work"),
        ("Мой перезалив", "Мой"),
        ("Reupload", "Part 2"),
        ("日本の朝", "日本の夜"),
    ],
)
def test_titles_with_different_meanings_stay_apart(one: str, other: str) -> None:
    assert len(set(groups_of([("a", one, "1"), ("b", other, "2")]).values())) == 2


def test_a_series_is_not_one_title() -> None:
    """Two parts are similar enough to leak; if all parts were grouped, a channel of one series could not be split."""
    series = [(f"v{n:02}", f"Let's build a boat, part {n}", str(n)) for n in range(1, 30)]
    assert len(set(groups_of(series).values())) == 29
    assert len(set(groups_of(series[:2]).values())) == 1


@pytest.mark.parametrize("marks", ["(hd) ", "reupload: ", ", ", "."])
def test_endless_marks_of_an_imported_title_are_not_read(marks: str) -> None:
    """They took minutes, as the time grows with the square of the length."""
    title = f"bread {marks * 50_000}bread"
    keys = title_keys([title, f"{title} (re-upload)"])
    assert len(set(keys.values())) == 2


def test_titles_of_only_symbols_stay_apart() -> None:
    keys = title_keys(["???", "!!!", "\N{FIRE}", " ??? "])
    assert len(set(keys.values())) == 3
    assert keys["???"] == keys[" ??? "]


def test_near_duplicate_thumbnails_join_a_group() -> None:
    rows = [("a", "one", "x"), ("b", "two", "y"), ("c", "three", "z")]
    assert groups_of(rows, {"x": "w", "y": "w"}) == {"a": "a", "b": "a", "c": "c"}


def test_a_real_channels_titles_are_all_different(shared_channel: Path) -> None:
    videos = json.loads((shared_channel / "videos.json").read_text(encoding="utf-8"))
    titles = [str(video["title"]) for video in videos]
    assert len(set(title_keys(titles).values())) == len({normalised(title) for title in titles})
    again = [f"{title} (re-upload)" for title in titles]
    keys = title_keys([*titles, *again])
    assert all(keys[one] == keys[other] for one, other in zip(titles, again, strict=True))
