"""The pure decisions of a sync."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import PageLoop
from collector.sync.plan import Fifties, PageGuard, feed_can_settle, kind_of, needs_confirming
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
def test_only_what_has_a_duration_and_is_not_live_can_be_a_pair(
    duration: int | None, live: LiveState, shortest: int
) -> None:
    kind = kind_of(duration, live, shortest)
    assert (kind == "video") == (live == "none" and duration is not None and duration >= shortest)
    assert (kind in ("upcoming", "live")) == (live != "none")


@given(st.integers(1, 50), st.data())
def test_whether_a_loss_is_doubted_never_turns_back(asked: int, data: st.DataObject) -> None:
    missing = data.draw(st.integers(0, asked))
    if needs_confirming(asked, missing):
        assert all(needs_confirming(asked, more) for more in range(missing, asked + 1))
        assert asked >= 10


@pytest.mark.parametrize(("hours", "settles"), [(0, True), (23.9, True), (24, False), (-1, False)])
def test_the_feed_settles_only_after_a_recent_listing(hours: float, settles: bool) -> None:
    assert feed_can_settle(NOW - timedelta(hours=hours), NOW) is settles
    assert feed_can_settle(None, NOW) is False


@given(st.lists(st.lists(st.text(max_size=3), max_size=120), max_size=8))
def test_fifties_keep_order_and_lose_nothing(parts: list[list[str]]) -> None:
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
def test_tokens_that_come_back_end_a_listing(tokens: list[str], total: int | None) -> None:
    with pytest.raises(PageLoop):
        read_pages(tokens, total)


@given(st.integers(1, 30_000))
def test_an_honest_listing_of_any_length_ends_undisturbed(total: int) -> None:
    guard = PageGuard()
    pages = -(-total // 50)
    for page in range(pages):
        guard.check(f"token {page}" if page + 1 < pages else None, total)


@given(st.none() | st.integers(0, 1000))
def test_ever_new_tokens_end_too(total: int | None) -> None:
    with pytest.raises(PageLoop):
        read_pages((f"token {page}" for page in range(2_001)), total)


def test_only_a_large_loss_is_doubted() -> None:
    assert needs_confirming(50, 50)
    assert needs_confirming(50, 26)
    assert not needs_confirming(50, 25)
    assert not needs_confirming(9, 9)
    assert not needs_confirming(1, 1)
