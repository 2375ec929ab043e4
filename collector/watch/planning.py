"""Decides which channels to sync, from the store and from what this process knows and the store may lack."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy.orm import Session

from collector.settings import Settings
from collector.sync import known_channel
from collector.watch.schedule import Rhythm, Turn, due_at
from collector.youtube import ChannelName
from store.errors import AmbiguousHandle
from store.types import CLOCKS_DIFFER
from store.youtube import (
    LastSync,
    being_synced,
    followed_ids,
    fresh_since,
    last_syncs,
    next_quota_day,
    quota_day,
    units_by_key,
)

__all__ = ["Plan", "Planner", "is_id"]

log = logging.getLogger(__name__)

BUSY_PAUSE = timedelta(minutes=5)
SCARCE_UNITS = 200
"""With fewer units left, the channels of a key take turns, because each sync counts what it spends batch by batch."""


@dataclass(frozen=True)
class Plan:
    """The data for the schedule, as read from the store at the time `at`.

    Args:
        at: the time.
        names: {channel: the name to pass to its sync}. A channel is identified by its id, or by a name whose id is
            unknown yet (see `is_id`).
        syncs: {channel: its last syncs}.
        fresh: {channel: the time after which all details of its videos were read}.
        units_left: {key fingerprint: units}; what this process spends later is subtracted.
        busy: the channels that some process is syncing.
    """

    at: datetime
    names: Mapping[str, ChannelName]
    syncs: Mapping[str, LastSync]
    fresh: Mapping[str, datetime]
    units_left: dict[str, int]
    busy: frozenset[str]


@dataclass(frozen=True)
class _LocalState:
    """The state of a channel that is known to this process, but perhaps not in the store."""

    failed_at: datetime | None = None
    failures: int = 0
    not_before: datetime | None = None


def is_id(channel: str) -> bool:
    """Whether a channel of the schedule is named by its id, not by a name whose id is unknown yet."""
    return channel.startswith("UC")


class Planner:
    """Reads plans, and remembers the results of this process's syncs.

    Args:
        names: the channels to sync; if empty, all channels in the store, including those added later.
        settings: the API keys.
        rhythm: how often each channel is synced.
        units: the units that all processes may spend per day (Pacific time) with one key.
        shared: whether other processes may sync channels of the same store at the same time.
    """

    def __init__(
        self, names: Sequence[ChannelName], settings: Settings, rhythm: Rhythm, units: int, *, shared: bool
    ) -> None:
        self._names = tuple(names)
        self._rhythm = rhythm
        self._units = units
        self._shared = shared
        self._key = settings.key_fingerprint
        self._keys = {channel: settings.of_channel(channel).key_fingerprint for channel in settings.keys}
        self._own: dict[str, _LocalState] = {}
        self._ids: dict[str, str] = {}
        """Channel ids by names whose id only YouTube knows (`/user/NAME`), so that each is looked up once."""
        self._quota_spent_on: dict[str, date] = {}
        self._pause_logged: dict[str, date] = {}

    def read(self, session: Session, now: datetime) -> Plan:
        """Read the plan."""
        named = [self._named(session, name) for name in self._names]
        if not self._names:
            named = [(channel_id, ChannelName("id", channel_id)) for channel_id in followed_ids(session)]
        spent = units_by_key(session, quota_day(now))
        left = {key: self._units - spent.get(key, 0) for key in self._all_keys()}
        # Two names may refer to the same channel.
        names = {channel_id or str(name): name for channel_id, name in named}
        busy = frozenset(being_synced(session, now)) if self._shared else frozenset[str]()
        return Plan(now, names, last_syncs(session), fresh_since(session), left, busy)

    def turn(self, channel: str, plan: Plan) -> Turn:
        """Return the results of a channel's syncs: those in the store, and those of this process."""
        last, own = plan.syncs.get(channel, LastSync()), self._own.get(channel, _LocalState())
        if last.done_at is not None and own.failed_at is not None and own.failed_at <= last.done_at:
            own = _LocalState()  # another process has succeeded since
        # Ignore future times, which come from a wrong clock, because they would delay the sync for long.
        latest = plan.at + CLOCKS_DIFFER
        done_at = last.done_at if last.done_at is not None and last.done_at <= latest else None
        failed = [moment for moment in (last.failed_at, own.failed_at) if moment is not None and moment <= latest]
        paused = own.not_before is not None and own.not_before <= plan.at + BUSY_PAUSE
        return Turn(
            channel,
            done_at,
            max(failed, default=None),
            max(last.failures, own.failures),
            own.not_before if paused else None,
        )

    def due_at(self, turn: Turn, plan: Plan) -> datetime:
        """The time of a channel's next sync; on the next day if the units of its key are used up."""
        due = due_at(self._rhythm, turn, plan.at)
        return max(due, next_quota_day(plan.at)) if self.is_paused(turn.channel, plan) else due

    def key_of(self, channel: str) -> str:
        """The fingerprint of the key that a channel is synced with."""
        return self._keys.get(channel, self._key)

    def waits_for_others(self, channel: str, plan: Plan, running: Collection[str]) -> bool:
        """Whether a channel waits for a running sync with the same key, because few units are left."""
        key = self.key_of(channel)
        return plan.units_left[key] < SCARCE_UNITS and any(self.key_of(other) == key for other in running)

    def is_paused(self, channel: str, plan: Plan) -> bool:
        """Whether the day's units of a channel's key are used up."""
        return self._key_is_paused(self.key_of(channel), plan)

    def any_key_is_paused(self, plan: Plan) -> bool:
        """Whether the day's units of some key are used up."""
        return any(self._key_is_paused(key, plan) for key in self._all_keys())

    def _key_is_paused(self, key: str, plan: Plan) -> bool:
        today = quota_day(plan.at)
        paused = plan.units_left[key] <= 0 or self._quota_spent_on.get(key) == today
        if paused and self._pause_logged.get(key) != today:
            self._pause_logged[key] = today
            until = next_quota_day(plan.at).isoformat()
            what = f"the {self._units} daily units" if plan.units_left[key] <= 0 else "the daily quota"
            verb = "are" if plan.units_left[key] <= 0 else "is"
            whose = f" of the key {key}" if self._keys else ""
            log.warning("%s%s %s used up; no syncs until %s", what, whose, verb, until, extra={"until": until})
        return paused

    def failed(self, channel: str, now: datetime) -> None:
        """Remember that a sync has failed."""
        self._own[channel] = _LocalState(now, self._own.get(channel, _LocalState()).failures + 1)

    def succeeded(self, channel: str) -> None:
        """Forget earlier failures."""
        self._own.pop(channel, None)

    def was_busy(self, channel: str, now: datetime) -> None:
        """Remember that another process is syncing a channel, and pause it."""
        self._own[channel] = _LocalState(not_before=now + BUSY_PAUSE)

    def quota_is_used_up(self, channel: str, plan: Plan) -> None:
        """Remember that the API refused a request, because the quota of the channel's key is used up."""
        # The day on which the sync started: it may have ended on the next day, whose units are not used up.
        self._quota_spent_on[self.key_of(channel)] = quota_day(plan.at)

    def has_id(self, name: ChannelName, channel_id: str) -> None:
        """Remember the id of a name."""
        self._ids[str(name)] = channel_id

    def _all_keys(self) -> set[str]:
        return {self._key, *self._keys.values()}

    def _named(self, session: Session, name: ChannelName) -> tuple[str | None, ChannelName]:
        """Return the channel's id, if known, and the name to pass to the sync.

        A stored handle stays a handle, so that the sync checks it from time to time.
        """
        try:
            known = known_channel(session, name)
        except AmbiguousHandle:  # the sync asks the API
            return None, name
        if known is not None:
            return known, name
        asked = self._ids.get(str(name))
        return asked, name if asked is None else ChannelName("id", asked)
