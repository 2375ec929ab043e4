"""When each channel is to be synced next: pure decisions, of times that are given.

Channels are spread by jitter, so that many watchers and many channels do not ask all at once; after failures they are
tried again sooner than the interval says, with exponential pauses up to it
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from collector.errors import BadSetting
from store.types import CLOCKS_DIFFER

__all__ = [
    "EPOCH",
    "JITTER",
    "Rhythm",
    "Turn",
    "due_at",
    "next_turn",
    "parse_duration",
    "refresh_is_due",
    "retraining_due",
]

JITTER = 0.1
"""Intervals and pauses vary by this part of themselves, either way."""
FIRST_PAUSE = timedelta(minutes=5)
SHORTEST = timedelta(minutes=1)
LONGEST = timedelta(days=30)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DURATION = re.compile(r"(\d{1,9})\s*([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often channels are synced.

    Attributes:
        every: from the end of one sync to the start of the next.
        seed: of the jitter; the same seed, channel and times give the same schedule.
    """

    every: timedelta
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A channel, and how its syncs went.

    Attributes:
        channel: what tells it from others.
        done_at: when a sync that did all it could ended; None for none.
        failed_at: when the last sync failed; None when none did since `done_at`.
        failures: how many failed in a row.
        not_before: a time until which it is to be left alone, whatever else is said.
    """

    channel: str
    done_at: datetime | None = None
    failed_at: datetime | None = None
    failures: int = 0
    not_before: datetime | None = None


def due_at(rhythm: Rhythm, turn: Turn, now: datetime) -> datetime:
    """When a channel is to be synced; never later than the longest interval from now, whatever the clock has done."""
    if turn.failures and turn.failed_at is not None:
        began, pause = turn.failed_at, _pause(rhythm.every, turn.failures)
    elif turn.done_at is not None:
        began, pause = turn.done_at, rhythm.every
    else:
        began, pause = EPOCH, timedelta()
    due = min(began, now) + pause * _stretch(rhythm.seed, turn.channel, began)
    if turn.not_before is None:
        return due
    return max(due, min(turn.not_before, now + rhythm.every))


def next_turn(rhythm: Rhythm, turns: Iterable[Turn], now: datetime) -> tuple[Turn, datetime] | None:
    """The channel whose turn is next, and when; of several, the one that has waited longest. None without channels."""
    due = [(turn, due_at(rhythm, turn, now)) for turn in turns]
    return min(due, key=lambda pair: pair[1], default=None)


def refresh_is_due(fresh_since: datetime | None, every: timedelta, now: datetime) -> bool:
    """Whether what is known of a channel's videos is too old.

    Args:
        fresh_since: all of it was read after that; None for a channel that is not in the store yet. A time to come
            was written by a clock that ran ahead: the age is unknown, so it counts as too old.
        every: how old it may become.
        now: the time.
    """
    if fresh_since is None:
        return False
    age = now - fresh_since
    return age >= every or age < -CLOCKS_DIFFER


def retraining_due(
    rhythm: Rhythm, now: datetime, *, wanted_at: datetime | None, began_at: datetime | None, idle: bool
) -> bool:
    """Whether a retraining begins now: when no channel is due, or after it has waited for an interval.

    Without the second condition it would never begin where some channel is always due.

    Args:
        rhythm: a retraining begins at most once an interval, give or take the jitter.
        now: the time.
        wanted_at: since when something is new; None when nothing is.
        began_at: when the last retraining began; None for none.
        idle: whether no channel is due.
    """
    if wanted_at is None:
        return False
    shortest = rhythm.every * (1 - JITTER)
    # A time to come is of a clock that was put back since: nothing waits for it.
    if began_at is not None and timedelta(0) <= now - began_at < shortest:
        return False
    return idle or not timedelta(0) <= now - wanted_at < shortest


def parse_duration(text: str) -> timedelta:
    """Read `30m`, `6h` or `1d`.

    Raises:
        BadSetting: it is no duration, or not one of a minute to 30 days.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise BadSetting(f"{text!r} is no duration; write a whole number and s, m, h or d, as in 30m, 6h or 1d")
    seconds = int(match[1]) * int(timedelta(**{_UNITS[match[2]]: 1}).total_seconds())
    if not SHORTEST.total_seconds() <= seconds <= LONGEST.total_seconds():
        raise BadSetting(f"{text!r} is not between a minute and 30 days; give a duration that is")
    return timedelta(seconds=seconds)


def _pause(every: timedelta, failures: int) -> timedelta:
    doublings = min(failures - 1, 30)
    return min(every, FIRST_PAUSE * (1 << doublings))


def _stretch(seed: str, channel: str, began: datetime) -> float:
    """A factor of 1 - JITTER to 1 + JITTER that depends on nothing but these."""
    digest = hashlib.blake2b(repr((seed, channel, began.timestamp())).encode(), digest_size=7).digest()
    return 1 + JITTER * (2 * int.from_bytes(digest, "big") / 2**56 - 1)
