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
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from collector.http import Http, Listen
from collector.settings import Settings
from collector.store_thread import StoreThread
from collector.sync import SyncOptions, SyncReport, sync_channels
from collector.watch.child import Child
from collector.watch.endpoints import Endpoints, serve
from collector.watch.metrics import LoopLag, Metrics, ModelInUse
from collector.watch.planning import Plan, Planner, is_id
from collector.watch.schedule import EPOCH, JITTER, Rhythm, in_order, refresh_is_due, retraining_due
from collector.youtube import ChannelName
from store.db import Database
from store.errors import StoreError
from store.training import channel_titles, current_models, recalls_of
from store.types import utc_now
from store.youtube import LastSync

__all__ = ["Retraining", "Service", "WatchOptions"]

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(minutes=1)
"""Interval at which the schedule is read again: channels are added, other processes sync, and clocks change."""
AT_ONCE = 8
"""The most channels that are synced at once on PostgreSQL; on SQLite, which has one writer, they are synced in turn."""
PLAN_IS_OLD_S = 10.0
"""The age up to which more syncs are started from a plan. Reading one takes 0.2 s for 10,000 channels."""
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
        self._settings = settings
        self._options = options
        self._stop = stop
        self._now = now
        self._wait = wait
        self._http = http
        self._store = StoreThread(database)
        self._lag = LoopLag(self.metrics.loop_lag.observe)
        self._all_failing = False
        self._running: dict[str, asyncio.Task[None]] = {}
        """The syncs in progress in this process, by channel."""
        self._at_once = AT_ONCE if database.url.get_backend_name() == "postgresql" else 1
        self._salt = os.urandom(8) if self._at_once > 1 else None
        self._planner = Planner(names, settings, options.rhythm, options.units, shared=self._at_once > 1)
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
        taken = set(self._running)  # the plan may lack the end of a sync that ends while the plan is read
        try:
            async with asyncio.timeout(STORE_IS_STUCK_S):
                plan = await self._store.read(self._plan)
        except (StoreError, TimeoutError) as error:
            log.error("the schedule can't be read: %s", str(error) or "the store does not answer")
            self.metrics.store_errors.inc()
            await self._wait(self._stop, LONGEST_WAIT.total_seconds())
            return
        for channel in plan.names:
            if (done_at := plan.syncs.get(channel, LastSync()).done_at) is not None:
                self.metrics.succeeded(channel, done_at)
        turns = [self._planner.turn(channel, plan) for channel in plan.names]
        self._all_failing = bool(turns) and all(turn.failures for turn in turns)
        self.metrics.paused.set(int(self._planner.any_key_is_paused(plan)))
        if not all(map(is_id, taken)):  # two names may refer to one channel, so they are looked up one after another
            taken.update(c for c, name in plan.names.items() if not is_id(c) or str(name) in taken)
        due = {turn.channel: self._planner.due_at(turn, plan) for turn in turns if turn.channel not in taken}
        now = {channel: at for channel, at in due.items() if at <= plan.at}
        await self._retrain(plan.at, idle=not now and not self._running)
        if now:
            await self._start(in_order(now, last=plan.busy, salt=self._salt), plan)
            return
        pause = min((at - plan.at for at in due.values()), default=LONGEST_WAIT)
        seconds = max(min(pause, LONGEST_WAIT).total_seconds(), 0.001)
        if self._running:
            await self._one_ends(seconds)
        elif not taken:  # otherwise the plan may lack a sync that has just ended: read it again
            await self._wait(self._stop, seconds)

    async def _start(self, due: Sequence[str], plan: Plan) -> None:
        """Start the syncs in this order, as earlier syncs end, until the plan is too old."""
        until = time.monotonic() + PLAN_IS_OLD_S
        for channel in due:
            while len(self._running) >= self._at_once or self._planner.waits_for_others(channel, plan, self._running):
                await self._one_ends(until - time.monotonic())
                if self._stop.is_set() or time.monotonic() >= until:
                    return
            if self._planner.is_paused(channel, plan):
                continue
            self._running[channel] = asyncio.create_task(self._sync_one(channel, plan))
            if self._at_once == 1 or not is_id(channel):
                await self._one_ends(None if self._at_once == 1 else until - time.monotonic())
                return

    async def _one_ends(self, seconds: float | None) -> None:
        """Wait until a sync in progress ends, or for a number of seconds."""
        await asyncio.wait(self._running.values(), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)

    async def _sync_one(self, channel: str, plan: Plan) -> None:
        try:
            await self._sync(channel, plan)
        finally:
            del self._running[channel]

    def _plan(self, session: Session) -> Plan:
        plan = self._planner.read(session, self._now())
        self.metrics.units_today.set(self._options.units - min(plan.units_left.values()))
        handles = {channel_id: handle for channel_id, (handle, _) in channel_titles(session).items()}
        self.metrics.describe(handles, _models_in_use(session), plan.at)
        return plan

    async def _sync(self, channel: str, plan: Plan) -> None:
        # Skip the sync if another process has synced the channel since the last sync in the plan. The plan's own time
        # would be wrong: a sync that was committed later may have ended earlier by the clock. A sync that ended more
        # than an interval ago is never a reason to skip, although the plan may lack it: if syncs overlap, or a clock is
        # corrected between them, the last sync to start is not the last to end.
        interval = self._options.rhythm.every * (1 - JITTER)
        known = max(min(plan.syncs.get(channel, LastSync()).done_at or EPOCH, plan.at), plan.at - interval)
        left = plan.units_left[self._planner.key_of(channel)]
        options = SyncOptions(alone_since=known, most_units=left, units_a_day=self._options.units)
        every = self._options.refresh_every
        if every is not None and refresh_is_due(plan.fresh.get(channel), every, plan.at):
            # A refresh may take several days of quota: continue it and do not read the same videos again.
            options = replace(options, mode="refresh", refresh_goes_on_for=every)
        try:
            reports = await sync_channels(
                self._database,
                [plan.names[channel]],
                self._settings,
                options,
                stop=self._stop,
                http=self._http(),
                now=self._now,
            )
        except Exception as error:
            bug = None if isinstance(error, StoreError) else error
            log.error("%s: the sync failed: %s", channel, error, exc_info=bug, extra={"channel": channel})
            self.metrics.broke(channel)
            self._planner.failed(channel, self._now())
            return
        for report in reports:
            for notice in report.notices:
                log.warning("%s", notice, extra={"channel": report.id})
            self._take(channel, report, plan)

    def _take(self, channel: str, report: SyncReport, plan: Plan) -> None:
        """Update the metrics and the schedule from a report."""
        shown = report.id or channel
        if report.id is not None:
            self._planner.has_id(plan.names[channel], report.id)
        self.metrics.synced(shown, report)
        plan.units_left[self._planner.key_of(channel)] -= report.units
        if report.status == "busy":
            self._planner.was_busy(channel, self._now())
            return
        if report.status == "failed":
            self._planner.failed(channel, self._now())
        elif report.status == "quota":
            self._planner.quota_is_used_up(channel, plan)
        else:
            self._planner.succeeded(channel)
        if report.new or report.changed or report.pictures_fetched:
            self._new_since = self._new_since or self._now()
        log.log(
            logging.WARNING if report.status in ("failed", "quota") else logging.INFO,
            "%s: %s, %d new, %d thumbnails, %d units, %.1f s%s",
            report.handle or shown,
            report.status,
            report.new,
            report.pictures_fetched,
            report.units,
            report.seconds,
            f": {report.error}" if report.error else "",
            extra=_facts(shown, report),
        )

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
