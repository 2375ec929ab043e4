"""The pure decisions of a sync."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import PageLoop
from collector.sync.plan import (
    Fifties,
    PageGuard,
    cheaper_question,
    feed_can_settle,
    handle_is_trusted,
    kind_of,
    may_be_short,
    needs_confirming,
)
from collector.youtube import LiveState

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("duration", "live", "kind"),
    [
        (180, "none", "video"),
        (179, "none", "short"),
        (None, "none", "unknown"),
        (None, "upcoming", "upcoming"),
        (None, "live", "live"),
        (600, "upcoming", "upcoming"),
    ],
)
def test_kinds(duration: int | None, live: str, kind: str) -> None:
    assert kind_of(duration, live, 180) == kind  # type: ignore[arg-type]


@given(st.none() | st.integers(1, 10**9), st.sampled_from(["none", "upcoming", "live"]), st.integers(0, 7 * 24 * 3600))
def test_only_videos_with_a_duration_that_are_not_live_can_be_pairs(
    duration: int | None, live: LiveState, shortest: int
) -> None:
    kind = kind_of(duration, live, shortest)
    assert (kind == "video") == (live == "none" and duration is not None and duration >= shortest)
    assert (kind in ("upcoming", "live")) == (live != "none")


@pytest.mark.parametrize(
    ("minimum", "doubtful"),
    [
        (181, range(180, 182)),  # the default
        (180, range(180, 182)),
        (60, range(60, 182)),
        (1, range(1, 182)),
        (0, ()),  # counts Shorts, too
        (182, ()),
        (600, ()),
    ],
)
def test_only_inconclusive_durations_need_the_shorts_playlist(minimum: int, doubtful: Iterable[int]) -> None:
    assert [seconds for seconds in range(1_000) if may_be_short(seconds, "none", minimum)] == list(doubtful)
    assert not may_be_short(None, "none", minimum)
    assert not may_be_short(180, "upcoming", minimum)


@given(st.integers(1, 5_000), st.integers(1, 20_000))
def test_classifying_shorts_costs_at_most_one_unit_more_than_the_optimum(videos: int, listed: int) -> None:
    """In the worst case: no video is in the list, so that every page is read."""
    pages = -(-listed // 50)
    known: int | None = None
    units, read = 0, 0
    while read < pages:
        if cheaper_question(videos, known) == "video":
            units += videos
            break
        units, read = units + 1, read + 1
        known = pages - read
    assert units <= min(videos, pages) + 1
    if videos == 1:
        assert units == 1


@pytest.mark.parametrize(("hours", "trusted"), [(0, True), (23.9, True), (24, False), (-0.05, True), (-1, False)])
def test_a_stored_handle_is_trusted_for_a_day(hours: float, trusted: bool) -> None:
    assert handle_is_trusted(NOW - timedelta(hours=hours), NOW) is trusted
    assert not handle_is_trusted(None, NOW)


@given(st.integers(1, 50), st.data())
def test_more_missing_videos_never_need_less_confirmation(asked: int, data: st.DataObject) -> None:
    missing = data.draw(st.integers(0, asked))
    if needs_confirming(asked, missing):
        assert all(needs_confirming(asked, more) for more in range(missing, asked + 1))
        assert asked >= 10


@pytest.mark.parametrize(("hours", "settles"), [(0, True), (23.9, True), (24, False), (-1, False)])
def test_the_feed_settles_only_after_a_recent_listing(hours: float, settles: bool) -> None:
    assert feed_can_settle(NOW - timedelta(hours=hours), NOW) is settles
    assert feed_can_settle(None, NOW) is False


@given(st.lists(st.lists(st.text(max_size=3), max_size=120), max_size=8))
def test_batches_of_fifty_keep_order_and_lose_nothing(parts: list[list[str]]) -> None:
    fifties = Fifties()
    batches = [batch for part in parts for batch in fifties.add(part)]
    assert all(len(batch) == 50 for batch in batches)
    rest = fifties.rest()
    assert all(0 < len(batch) < 50 for batch in rest)
    assert [i for batch in batches + rest for i in batch] == [i for part in parts for i in part]
    assert fifties.rest() == []


def read_pages(tokens: Iterable[str], total: int | None) -> None:
    guard = PageGuard()
    for token in tokens:
        guard.check(token, total)


@given(st.lists(st.sampled_from("abcdef"), min_size=7), st.none() | st.integers(0, 10_000))
def test_repeated_page_tokens_end_a_listing(tokens: list[str], total: int | None) -> None:
    with pytest.raises(PageLoop):
        read_pages(tokens, total)


@given(st.integers(1, 30_000))
def test_a_valid_listing_of_any_length_is_accepted(total: int) -> None:
    guard = PageGuard()
    pages = -(-total // 50)
    for page in range(pages):
        guard.check(f"token {page}" if page + 1 < pages else None, total)


@given(st.none() | st.integers(0, 1000))
def test_endless_new_page_tokens_end_a_listing(total: int | None) -> None:
    with pytest.raises(PageLoop):
        read_pages((f"token {page}" for page in range(2_001)), total)


def test_only_a_large_number_of_missing_videos_needs_confirmation() -> None:
    assert needs_confirming(50, 50)
    assert needs_confirming(50, 26)
    assert not needs_confirming(50, 25)
    assert not needs_confirming(9, 9)
    assert not needs_confirming(1, 1)
