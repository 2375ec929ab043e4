"""The service: syncs each channel when it is due, until it is stopped.

A failed sync, even one with a store error or a bug, is logged and counted, and the service continues. The schedule
comes from the store, so that a restart neither syncs everything at once nor forgets a pause.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from collector.http import Http, Listen
from collector.settings import Settings
from collector.store_thread import StoreThread
from collector.sync import SyncOptions, SyncReport, known_channel, sync_channels
from collector.watch.child import Child
from collector.watch.endpoints import Endpoints, serve
from collector.watch.metrics import LoopLag, Metrics, ModelInUse
from collector.watch.schedule import (
    EPOCH,
    JITTER,
    Rhythm,
    Turn,
    due_at,
    in_order,
    refresh_is_due,
    retraining_due,
)
from collector.youtube import ChannelName
from store.db import Database
from store.errors import AmbiguousHandle, StoreError
from store.training import channel_titles, current_models, recalls_of
from store.types import CLOCKS_DIFFER, utc_now
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

__all__ = ["Retraining", "Service", "WatchOptions"]

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(minutes=1)
"""Interval at which the schedule is read again: channels are added, other processes sync, and clocks change."""
BUSY_PAUSE = timedelta(minutes=5)
AT_ONCE = 8
"""The most channels that are synced at once on PostgreSQL; on SQLite, which has one writer, they are synced in turn."""
PLAN_IS_OLD_S = 10.0
"""The age up to which more syncs are started from a plan. Reading one takes 0.2 s for 10,000 channels."""
SCARCE_UNITS = 200
"""With fewer units left, the channels of a key take turns, because each sync counts what it spends batch by batch."""
MOST_LAG_S = 5.0
STORE_ANSWERS_IN_S = 5.0
STORE_IS_STUCK_S = 90.0
"""Timeout for a database server that accepts a query and does not respond; longer than any wait for a lock."""


@dataclass(frozen=True, slots=True)
class Retraining:
    """The command for retraining and its complete environment."""

    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The options of the service.

    Attributes:
        rhythm: how often each channel is synced.
        units: the units that all processes may spend per day (Pacific time) with one key.
        retraining: the command to run after syncs with new data, at most once per interval; None: no retraining.
        listen: the address of the HTTP endpoints; None: no endpoints.
        refresh_every: the age of a channel's video details at which its next sync is a refresh, which reads all details
            again; None: no refreshes.
    """

    rhythm: Rhythm
    units: int = 9000
    retraining: Retraining | None = None
    listen: Listen | None = None
    refresh_every: timedelta | None = None


def _models_in_use(session: Session) -> list[ModelInUse]:
    found = []
    for one in current_models(session):
        measured = recalls_of(session, one.run.id).get("tuned", {})
        recall = measured.get("test", measured.get("valid"))
        scope = ",".join(one.scope) or "all"
        found.append(ModelInUse(one.run.id, scope, one.since, None if recall is None else recall.value))
    return found


@dataclass
class _Own:
    """The state of a channel that is known to this process, but perhaps not in the store."""

    failed_at: datetime | None = None
    failures: int = 0
    not_before: datetime | None = None


@dataclass(frozen=True)
class _Plan:
    """The data for the schedule, as read from the store at the time `at`."""

    at: datetime
    names: Mapping[str, ChannelName]
    syncs: Mapping[str, LastSync]
    fresh: Mapping[str, datetime]
    units_left: dict[str, int]
    """{key fingerprint: units}; what this process spends later is subtracted."""
    busy: frozenset[str]
    """The channels that some process is syncing."""


def _is_id(channel: str) -> bool:
    """Whether a channel of the schedule is named by its id, not by a name whose id is unknown yet."""
    return channel.startswith("UC")


async def _wait_for(stop: asyncio.Event, seconds: float) -> None:
    """Wait for a number of seconds, or until `stop` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


class Service:
    """The service. An instance runs only once.

    Args:
        database: an open store.
        names: the channels to sync; if empty, all channels in the store, including those added later.
        settings: the API keys and URLs.
        options: the options of the service.
        stop: set it to end the service; work in progress is finished.
        metrics: the metrics to update; default: a new instance.
        now: returns the current time in UTC.
        wait: waits for a number of seconds, or until the event is set.
        http: creates an HTTP session for each sync.
    """

    def __init__(
        self,
        database: Database,
        names: Sequence[ChannelName],
        settings: Settings,
        options: WatchOptions,
        *,
        stop: asyncio.Event,
        metrics: Metrics | None = None,
        now: Callable[[], datetime] = utc_now,
        wait: Callable[[asyncio.Event, float], Awaitable[None]] = _wait_for,
        http: Callable[[], Http] = Http,
    ) -> None:
        self.metrics = metrics or Metrics()
        self._database = database
        self._names = tuple(names)
        self._settings = settings
        self._options = options
        self._stop = stop
        self._now = now
        self._wait = wait
        self._http = http
        self._store = StoreThread(database)
        self._lag = LoopLag(self.metrics.loop_lag.observe)
        self._own: dict[str, _Own] = {}
        self._ids: dict[str, str] = {}
        """Channel ids by names whose id only YouTube knows (`/user/NAME`), so that each is looked up once."""
        self._all_failing = False
        self._running: dict[str, asyncio.Task[None]] = {}
        """The syncs in progress in this process, by channel."""
        self._at_once = AT_ONCE if database.url.get_backend_name() == "postgresql" else 1
        self._salt = os.urandom(8) if self._at_once > 1 else None
        self._keys = {channel: settings.of_channel(channel).key_fingerprint for channel in settings.keys}
        self._quota_spent_on: dict[str, date] = {}
        self._pause_logged: dict[str, date] = {}
        retraining = options.retraining
        self._child = (
            None
            if retraining is None
            else Child("retraining", retraining.command, retraining.environment, self._retrained)
        )
        # Data that was synced before this start may not have been used for training.
        self._new_since: datetime | None = self._now()
        self._retrained_at: datetime | None = None
        self.metrics.units_budget.set(options.units)

    async def run(self, listening: Callable[[Listen], object] = lambda _: None) -> None:
        """Run until `stop` is set.

        Args:
            listening: called with the actual address once the endpoints are available.

        Raises:
            CantListen: the address is not available; no sync was started.
        """
        with self._store:
            async with self._lag.measured():
                if self._options.listen is None:
                    await self._work()
                    return
                endpoints = Endpoints(self._unhealthy, self._unready, self.metrics.text)
                async with serve(self._options.listen, endpoints) as address:
                    listening(address)
                    await self._work()

    async def _work(self) -> None:
        ending = asyncio.create_task(self._end_child_when_stopped())
        try:
            while not self._stop.is_set():
                await self._step()
            await asyncio.gather(*self._running.values())
            await ending
        finally:
            ending.cancel()
            if syncs := list(self._running.values()):
                for sync in syncs:
                    sync.cancel()
                await asyncio.wait(syncs)
            if self._child is not None:
                self._child.kill()
        log.info("stopped cleanly")

    async def _end_child_when_stopped(self) -> None:
        """Stop the child process when `stop` is set, concurrently with the sync in progress."""
        await self._stop.wait()
        log.info("stopping: finishing the work in progress")
        if self._child is not None:
            await self._child.stop()

    async def _step(self) -> None:
        """Start the syncs that are due, or wait."""
        taken = set(self._running)  # of a sync that ends while the plan is read, the plan may lack the end
        try:
            async with asyncio.timeout(STORE_IS_STUCK_S):
                plan = await self._store.read(self._plan)
        except (StoreError, TimeoutError) as error:
            log.error("the schedule can't be read: %s", str(error) or "the store does not answer")
            self.metrics.store_errors.inc()
            await self._wait(self._stop, LONGEST_WAIT.total_seconds())
            return
        for key in plan.names:
            if (done_at := plan.syncs.get(key, LastSync()).done_at) is not None:
                self.metrics.succeeded(key, done_at)
        turns = [self._turn(key, plan) for key in plan.names]
        self._all_failing = bool(turns) and all(turn.failures for turn in turns)
        self.metrics.paused.set(int(any(self._paused(key, plan) for key in self._all_keys())))
        if not all(map(_is_id, taken)):  # two names may be of one channel, so names are looked up in turn
            taken.update(c for c, name in plan.names.items() if not _is_id(c) or str(name) in taken)
        due = {turn.channel: self._due_at(turn, plan) for turn in turns if turn.channel not in taken}
        now = {channel: at for channel, at in due.items() if at <= plan.at}
        await self._retrain(plan.at, idle=not now and not self._running)
        if now:
            await self._start(in_order(now, last=plan.busy, salt=self._salt), plan)
            return
        pause = min((at - plan.at for at in due.values()), default=LONGEST_WAIT)
        seconds = max(min(pause, LONGEST_WAIT).total_seconds(), 0.001)
        if self._running:
            await self._one_ends(seconds)
        elif not taken:  # else the plan lacks what ended while it was read
            await self._wait(self._stop, seconds)

    def _due_at(self, turn: Turn, plan: _Plan) -> datetime:
        due = due_at(self._options.rhythm, turn, plan.at)
        return max(due, next_quota_day(plan.at)) if self._paused(self._key_of(turn.channel), plan) else due

    async def _start(self, due: Sequence[str], plan: _Plan) -> None:
        """Start syncs in this order as others end, while the plan is new."""
        until = time.monotonic() + PLAN_IS_OLD_S
        for channel in due:
            while len(self._running) >= self._at_once or self._takes_turns(channel, plan):
                await self._one_ends(until - time.monotonic())
                if self._stop.is_set() or time.monotonic() >= until:
                    return
            if self._paused(self._key_of(channel), plan):
                continue
            self._running[channel] = asyncio.create_task(self._sync_one(channel, plan))
            if self._at_once == 1 or not _is_id(channel):
                await self._one_ends(None if self._at_once == 1 else until - time.monotonic())
                return

    def _takes_turns(self, channel: str, plan: _Plan) -> bool:
        """Whether a channel waits for another with the same key, because few units are left."""
        key = self._key_of(channel)
        return plan.units_left[key] < SCARCE_UNITS and any(self._key_of(other) == key for other in self._running)

    async def _one_ends(self, seconds: float | None) -> None:
        """Wait until a sync in progress ends, or for a number of seconds."""
        await asyncio.wait(self._running.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def _sync_one(self, channel: str, plan: _Plan) -> None:
        try:
            await self._sync(channel, plan)
        finally:
            del self._running[channel]

    def _plan(self, session: Session) -> _Plan:
        now = self._now()
        named = [self._named(session, name) for name in self._names]
        if not self._names:
            named = [(channel_id, ChannelName("id", channel_id)) for channel_id in followed_ids(session)]
        spent = units_by_key(session, quota_day(now))
        spent = {key: spent.get(key, 0) for key in self._all_keys()}
        self.metrics.units_today.set(max(spent.values()))
        left = {key: self._options.units - units for key, units in spent.items()}
        handles = {channel_id: handle for channel_id, (handle, _) in channel_titles(session).items()}
        self.metrics.describe(handles, _models_in_use(session), now)
        # Two names may refer to the same channel.
        names = {channel_id or str(name): name for channel_id, name in named}
        busy = frozenset(being_synced(session, now)) if self._at_once > 1 else frozenset[str]()
        return _Plan(now, names, last_syncs(session), fresh_since(session), left, busy)

    def _all_keys(self) -> set[str]:
        return {self._settings.key_fingerprint, *self._keys.values()}

    def _key_of(self, channel: str) -> str:
        """The fingerprint of the key that a channel is synced with."""
        return self._keys.get(channel, self._settings.key_fingerprint)

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

    def _turn(self, key: str, plan: _Plan) -> Turn:
        last, own = plan.syncs.get(key, LastSync()), self._own.get(key, _Own())
        if last.done_at is not None and own.failed_at is not None and own.failed_at <= last.done_at:
            own = _Own()  # another process has succeeded since
        # Ignore future times, which come from a wrong clock, because they would delay the sync for long.
        latest = plan.at + CLOCKS_DIFFER
        done_at = last.done_at if last.done_at is not None and last.done_at <= latest else None
        failed = [moment for moment in (last.failed_at, own.failed_at) if moment is not None and moment <= latest]
        paused = own.not_before is not None and own.not_before <= plan.at + BUSY_PAUSE
        return Turn(
            key,
            done_at,
            max(failed, default=None),
            max(last.failures, own.failures),
            own.not_before if paused else None,
        )

    def _paused(self, key: str, plan: _Plan) -> bool:
        """Whether the day's units of a key are used up."""
        today = quota_day(plan.at)
        paused = plan.units_left[key] <= 0 or self._quota_spent_on.get(key) == today
        if paused and self._pause_logged.get(key) != today:
            self._pause_logged[key] = today
            until = next_quota_day(plan.at).isoformat()
            what = f"the {self._options.units} daily units" if plan.units_left[key] <= 0 else "the daily quota"
            verb = "are" if plan.units_left[key] <= 0 else "is"
            whose = f" of the key {key}" if self._keys else ""
            log.warning("%s%s %s used up; no syncs until %s", what, whose, verb, until, extra={"until": until})
        return paused

    async def _sync(self, key: str, plan: _Plan) -> None:
        # Skip the sync if another process has synced the channel since the last sync in the plan. The plan's own time
        # would be wrong: a sync that was committed later may have ended earlier by the clock. A sync that ended more
        # than an interval ago is never a reason to skip, although the plan may lack it: if syncs overlap, or a clock is
        # corrected between them, the last sync to start is not the last to end.
        interval = self._options.rhythm.every * (1 - JITTER)
        known = max(min(plan.syncs.get(key, LastSync()).done_at or EPOCH, plan.at), plan.at - interval)
        left = plan.units_left[self._key_of(key)]
        options = SyncOptions(alone_since=known, most_units=left, units_a_day=self._options.units)
        every = self._options.refresh_every
        if every is not None and refresh_is_due(plan.fresh.get(key), every, plan.at):
            # A refresh may take several days of quota: continue it and do not read the same videos again.
            options = replace(options, mode="refresh", refresh_goes_on_for=every)
        try:
            reports = await sync_channels(
                self._database,
                [plan.names[key]],
                self._settings,
                options,
                stop=self._stop,
                http=self._http(),
                now=self._now,
            )
        except Exception as error:
            bug = None if isinstance(error, StoreError) else error
            log.error("%s: the sync failed: %s", key, error, exc_info=bug, extra={"channel": key})
            self.metrics.broke(key)
            self._failed(key)
            return
        for report in reports:
            for notice in report.notices:
                log.warning("%s", notice, extra={"channel": report.id})
            self._take(key, report, plan)

    def _take(self, key: str, report: SyncReport, plan: _Plan) -> None:
        """Update the metrics and the schedule from a report."""
        channel = report.id or key
        if report.id is not None:
            self._ids[str(plan.names[key])] = report.id
        self.metrics.synced(channel, report)
        plan.units_left[self._key_of(key)] -= report.units
        if report.status == "busy":
            self._own[key] = _Own(not_before=self._now() + BUSY_PAUSE)
            return
        if report.status == "failed":
            self._failed(key)
        elif report.status == "quota":
            # The day on which the sync started: it may have ended on the next day, whose units are not used up.
            self._quota_spent_on[self._key_of(key)] = quota_day(plan.at)
        else:
            self._own.pop(key, None)
        if report.new or report.changed or report.pictures_fetched:
            self._new_since = self._new_since or self._now()
        log.log(
            logging.WARNING if report.status in ("failed", "quota") else logging.INFO,
            "%s: %s, %d new, %d thumbnails, %d units, %.1f s%s",
            report.handle or channel,
            report.status,
            report.new,
            report.pictures_fetched,
            report.units,
            report.seconds,
            f": {report.error}" if report.error else "",
            extra=_facts(channel, report),
        )

    def _failed(self, key: str) -> None:
        own = self._own.get(key, _Own())
        self._own[key] = _Own(self._now(), own.failures + 1)

    async def _retrain(self, now: datetime, *, idle: bool) -> None:
        """Start a retraining if it is due and none is running; it runs concurrently with the syncs."""
        if self._child is None or self._child.running or self._stop.is_set():
            return
        rhythm = self._options.rhythm
        if not retraining_due(rhythm, now, wanted_at=self._new_since, began_at=self._retrained_at, idle=idle):
            return
        self._new_since = None
        self._retrained_at = now
        self.metrics.retraining.set(1)
        await self._child.start()

    def _retrained(self, code: int) -> None:
        self.metrics.retraining.set(0)
        self.metrics.retrained(code)
        if code != 0:  # the new data still needs a retraining
            self._new_since = self._new_since or self._now()

    async def _unhealthy(self) -> str | None:
        lag = self._lag.worst_s()
        return f"the event loop was blocked for {lag:.1f} s" if lag > MOST_LAG_S else None

    async def _unready(self) -> str | None:
        try:
            async with asyncio.timeout(STORE_ANSWERS_IN_S):
                await self._store.read(lambda session: session.execute(text("SELECT 1")))
        except StoreError as error:
            # The message may name hosts and files, and anyone who can reach the service can read this.
            log.warning("the store can't be read: %s", error)
            return f"the store can't be read ({type(error).__name__}); see the log"
        except TimeoutError:
            return f"the store does not answer within {STORE_ANSWERS_IN_S:g} s"
        return "the last sync of every channel failed; see the log" if self._all_failing else None


def _facts(channel: str, report: SyncReport) -> dict[str, object]:
    """The additional fields of a sync's log record."""
    return {
        "channel": channel,
        "status": report.status,
        "units": report.units,
        "requests": report.requests,
        "new": report.new,
        "changed": report.changed,
        "gone": report.gone,
        "pictures": report.pictures_fetched,
        "pictures_failed": report.pictures_failed,
        "seconds": round(report.seconds, 3),
    }
