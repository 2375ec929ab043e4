"""The schedule at any times: no sync is too early or forgotten, and nothing is random."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import BadSetting
from collector.watch import Rhythm, parse_duration
from collector.watch.schedule import FIRST_PAUSE, JITTER, Turn, due_at, in_order, retraining_due

NOW = datetime(2024, 7, 1, 12, tzinfo=UTC)

instants = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 (a zone is given below)
    max_value=datetime(2030, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
rhythms = st.builds(
    Rhythm, st.timedeltas(min_value=timedelta(minutes=1), max_value=timedelta(days=30)), st.text(max_size=5)
)
turns = st.builds(
    Turn,
    channel=st.text(min_size=1, max_size=8),
    done_at=st.none() | instants,
    failed_at=st.none() | instants,
    failures=st.integers(0, 2000),
    not_before=st.none() | instants,
)


@given(rhythms, st.text(max_size=8), instants, st.timedeltas(timedelta(), timedelta(days=60)))
def test_a_channel_is_due_after_one_interval_within_ten_percent(
    rhythm: Rhythm, channel: str, done_at: datetime, since: timedelta
) -> None:
    wait = due_at(rhythm, Turn(channel, done_at), done_at + since) - done_at
    assert rhythm.every * (1 - JITTER) <= wait <= rhythm.every * (1 + JITTER)


@given(rhythms, turns, instants)
def test_a_schedule_depends_only_on_seed_channel_and_times(rhythm: Rhythm, turn: Turn, now: datetime) -> None:
    assert due_at(rhythm, turn, now) == due_at(Rhythm(rhythm.every, rhythm.seed), turn, now)


@given(rhythms, turns, instants)
def test_no_channel_waits_longer_than_the_interval(rhythm: Rhythm, turn: Turn, now: datetime) -> None:
    assert due_at(rhythm, turn, now) <= now + rhythm.every * (1 + JITTER)


@given(rhythms, st.text(max_size=8), instants, st.integers(1, 2000))
def test_pauses_after_failures_double_up_to_the_interval(
    rhythm: Rhythm, channel: str, failed_at: datetime, failures: int
) -> None:
    wait = due_at(rhythm, Turn(channel, None, failed_at, failures), failed_at) - failed_at
    wanted = min(rhythm.every, FIRST_PAUSE * (1 << min(failures - 1, 20)))
    assert wanted * (1 - JITTER) <= wait <= wanted * (1 + JITTER)


def test_channels_are_ordered_by_minute_and_differently_for_each_process() -> None:
    due = {f"UC{number:03d}": NOW + timedelta(seconds=number) for number in range(120)}
    assert in_order(due) == sorted(due)
    orders = [in_order(due, salt=salt, last=["UC000"]) for salt in (b"one", b"other")]
    assert orders[0] != orders[1]
    for order in orders:
        assert order[-1] == "UC000"
        assert set(order[:59]) == set(sorted(due)[1:60]), "a minute's channels come before the next minute's"


@given(rhythms, st.integers(2, 8), st.integers(1, 60))
def test_every_channel_gets_its_turns(rhythm: Rhythm, count: int, minutes: int) -> None:
    """In a simulation, long syncs and a channel that always fails do not delay other channels forever."""
    states = {f"UC{number}": Turn(f"UC{number}") for number in range(count)}
    now, synced = NOW, dict.fromkeys(states, 0)
    for _ in range(8 * count):
        due = {channel: due_at(rhythm, state, now) for channel, state in states.items()}
        turn = states[in_order(due)[0]]
        now = max(now, due[turn.channel]) + timedelta(minutes=minutes)
        synced[turn.channel] += 1
        failed = turn.channel == "UC0"
        states[turn.channel] = (
            Turn(turn.channel, None, now, turn.failures + 1) if failed else Turn(turn.channel, done_at=now)
        )
    assert min(synced.values()) >= 2


def test_jitter_spreads_channels_seeds_and_days() -> None:
    rhythm = Rhythm(timedelta(hours=6), "a")
    by_channel = {due_at(rhythm, Turn(f"UC{number}", NOW), NOW) for number in range(100)}
    by_seed = {due_at(Rhythm(timedelta(hours=6), str(seed)), Turn("UC", NOW), NOW) for seed in range(100)}
    by_day = {
        due_at(rhythm, Turn("UC", NOW + timedelta(days=day)), NOW + timedelta(days=day)) - timedelta(days=day)
        for day in range(100)
    }
    for moments in (by_channel, by_seed, by_day):
        assert len(moments) == 100
        assert max(moments) - min(moments) > timedelta(hours=6) * JITTER


def test_a_channel_that_was_never_synced_is_due_first() -> None:
    late = Turn("late", NOW - timedelta(days=20))
    due = {turn.channel: due_at(Rhythm(timedelta(hours=1)), turn, NOW) for turn in (late, Turn("new"))}
    assert in_order(due) == ["new", "late"]
    assert due["new"] <= NOW


def test_a_channel_is_not_due_before_not_before() -> None:
    rhythm, soon = Rhythm(timedelta(hours=1)), NOW + timedelta(minutes=5)
    assert due_at(rhythm, Turn("new", not_before=soon), NOW) == soon


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60s", timedelta(minutes=1)),
        ("90m", timedelta(minutes=90)),
        ("6h", timedelta(hours=6)),
        (" 1 d ", timedelta(days=1)),
        ("30d", timedelta(days=30)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "6", "h", "6 hours", "-6h", "6.5h", "1h30m", "6H", "٦h", "1e3s", "99999999999h"])
def test_invalid_durations_are_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "59s", "0h", "31d", "999999999d"])
def test_durations_out_of_range(text: str) -> None:
    with pytest.raises(BadSetting, match="out of range"):
        parse_duration(text)


@pytest.mark.slow
@given(st.text(max_size=12))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        found = parse_duration(text)
    except BadSetting:
        return
    assert timedelta(minutes=1) <= found <= timedelta(days=30)


@given(rhythms, instants, st.timedeltas(timedelta(), timedelta(days=90)), st.none() | instants)
def test_a_retraining_waits_at_most_one_interval_for_an_idle_moment(
    rhythm: Rhythm, wanted_at: datetime, waited: timedelta, began_at: datetime | None
) -> None:
    now, shortest = wanted_at + waited, rhythm.every * (1 - JITTER)
    too_early = began_at is not None and timedelta(0) <= now - began_at < shortest

    def due(idle: bool) -> bool:
        return retraining_due(rhythm, now, wanted_at=wanted_at, began_at=began_at, idle=idle)

    assert due(idle=True) is not too_early
    assert due(idle=False) is (not too_early and waited >= shortest)
    assert not retraining_due(rhythm, now, wanted_at=None, began_at=began_at, idle=True)
    # A clock that was put back delays nothing.
    assert retraining_due(rhythm, now, wanted_at=now + rhythm.every, began_at=now + rhythm.every, idle=False)
