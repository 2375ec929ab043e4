"""Decides when each channel is synced next. Performs no I/O; the caller passes the times.

Jitter spreads the channels, so that many services and channels do not send requests at the same time. After failures,
a channel is retried before its interval has passed, with exponential backoff up to the interval
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
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
    "in_order",
    "parse_duration",
    "refresh_is_due",
    "retraining_due",
]

JITTER = 0.1
"""The fraction by which intervals and pauses vary in both directions."""
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
        every: the time from the end of a sync to the start of the next.
        seed: the seed of the jitter; the same seed, channel and times give the same schedule.
    """

    every: timedelta
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """A channel and the results of its syncs.

    Attributes:
        channel: an identifier of the channel.
        done_at: the end of the last successful sync; None if there was none.
        failed_at: the time of the last failure; None if no sync has failed since `done_at`.
        failures: the number of consecutive failures.
        not_before: the earliest time of the next sync, or None.
    """

    channel: str
    done_at: datetime | None = None
    failed_at: datetime | None = None
    failures: int = 0
    not_before: datetime | None = None


def due_at(rhythm: Rhythm, turn: Turn, now: datetime) -> datetime:
    """The time of a channel's next sync; at most one interval plus jitter from now, even if the clock was changed."""
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


def in_order(due: Mapping[str, datetime], *, last: Collection[str] = (), salt: bytes | None = None) -> list[str]:
    """Sort channels by when they became due, so that no channel waits forever.

    Args:
        due: {channel: when it became due}.
        last: channels to put at the end.
        salt: a value of the caller's process. Channels that became due in the same minute get an order that depends on
            it, so that processes with one schedule rarely try the same channel. None: sort by time alone.
    """

    def place(channel: str) -> tuple[bool, float, bytes]:
        moment = due[channel].timestamp()
        if salt is None:
            return channel in last, moment, b""
        return channel in last, moment // 60, hashlib.blake2b(channel.encode(), key=salt, digest_size=8).digest()

    return sorted(due, key=place)


def refresh_is_due(fresh_since: datetime | None, every: timedelta, now: datetime) -> bool:
    """Whether the details of a channel's videos are too old.

    Args:
        fresh_since: the time after which all details were read; None for a channel that is not in the store yet. A
            future time comes from a wrong clock: the age is unknown, so the details count as too old.
        every: the maximum age.
        now: the current time.
    """
    if fresh_since is None:
        return False
    age = now - fresh_since
    return age >= every or age < -CLOCKS_DIFFER


def retraining_due(
    rhythm: Rhythm, now: datetime, *, wanted_at: datetime | None, began_at: datetime | None, idle: bool
) -> bool:
    """Whether to start a retraining: when no channel is due, or when it has waited for an interval.

    Without the second condition, a retraining would never start if some channel is always due.

    Args:
        rhythm: a retraining starts at most once per interval, within the jitter.
        now: the current time.
        wanted_at: the time since which there is new data; None if there is none.
        began_at: the start of the last retraining; None if there was none.
        idle: whether no channel is due.
    """
    if wanted_at is None:
        return False
    shortest = rhythm.every * (1 - JITTER)
    # A future time means that the clock was set back: ignore it.
    if began_at is not None and timedelta(0) <= now - began_at < shortest:
        return False
    return idle or not timedelta(0) <= now - wanted_at < shortest


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as `30m`, `6h` or `1d`.

    Raises:
        BadSetting: the text is not a duration, or not between a minute and 30 days.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise BadSetting(f"{text!r} is not a duration; write a whole number and s, m, h or d, as in 30m, 6h or 1d")
    seconds = int(match[1]) * int(timedelta(**{_UNITS[match[2]]: 1}).total_seconds())
    if not SHORTEST.total_seconds() <= seconds <= LONGEST.total_seconds():
        raise BadSetting(f"{text!r} is out of range; give a duration between a minute and 30 days")
    return timedelta(seconds=seconds)


def _pause(every: timedelta, failures: int) -> timedelta:
    doublings = min(failures - 1, 30)
    return min(every, FIRST_PAUSE * (1 << doublings))


def _stretch(seed: str, channel: str, began: datetime) -> float:
    """A factor from 1 - JITTER to 1 + JITTER, determined by the arguments."""
    digest = hashlib.blake2b(repr((seed, channel, began.timestamp())).encode(), digest_size=7).digest()
    return 1 + JITTER * (2 * int.from_bytes(digest, "big") / 2**56 - 1)
