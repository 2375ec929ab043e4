"""Sync runs: each row is inserted at the start and updated in the same transactions as the rows that it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from sqlalchemy import Integer, and_, bindparam, func, or_, select, union_all, update
from sqlalchemy.orm import Session

from store.tables import Channel, SyncMode, SyncRun, SyncStatus
from store.types import CLOCKS_DIFFER
from store.youtube.quota import add_units

__all__ = [
    "LEASE",
    "LastSync",
    "SyncCounts",
    "add_counts",
    "being_synced",
    "begin_sync",
    "clock",
    "end_stale_syncs",
    "finish_sync",
    "get_sync",
    "last_syncs",
    "refresh_began",
    "record_heartbeat",
    "sync_of_another",
]

LEASE = timedelta(minutes=10)
"""A sync without a heartbeat for this long counts as dead, even if its process seems to be running."""

DONE = ("complete", "unchanged", "partial")


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """Increments of a sync run's counters in one transaction."""

    listed: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    pictures_fetched: int = 0
    pictures_unchanged: int = 0
    pictures_failed: int = 0
    requests: int = 0
    units: int = 0


# Module-level because every transaction of a sync executes it.
_COUNTERS = tuple(field.name for field in fields(SyncCounts))
_ADD = (
    update(SyncRun)
    .where(SyncRun.id == bindparam("run_id"))
    .values({name: getattr(SyncRun, name) + bindparam(f"added_{name}", type_=Integer) for name in _COUNTERS})
    .execution_options(synchronize_session=False)
)
_ADD_ON_SQLITE, _ADD_ON_POSTGRES = _ADD.values(seen_at=bindparam("now")), _ADD.values(seen_at=func.now())


@dataclass(frozen=True, slots=True)
class LastSync:
    """The outcome of a channel's most recent syncs.

    Attributes:
        done_at: when the last `complete`, `unchanged` or `partial` sync ended; None if there was none.
        failed_at: when the last failure after that sync was; None if there was none.
        failures: the number of failures after that sync.
    """

    done_at: datetime | None = None
    failed_at: datetime | None = None
    failures: int = 0


def clock(session: Session, now: datetime) -> datetime:
    """The time by which heartbeats are judged: on PostgreSQL the server's, because machines' clocks may differ.

    Args:
        session: any session.
        now: the time by this machine's clock, which is used on SQLite.
    """
    if session.get_bind().dialect.name == "sqlite":
        return now
    return session.scalars(select(func.now())).one()


def begin_sync(
    session: Session,
    channel_id: str,
    mode: SyncMode,
    *,
    host: str,
    pid: int,
    now: datetime,
    process_start: int | None = None,
) -> int:
    """Insert a run with status `running`; return its id."""
    run = SyncRun(channel_id=channel_id, mode=mode, status="running", started_at=now, host=host, pid=pid)
    run.seen_at = clock(session, now)
    run.process_start = process_start
    session.add(run)
    session.flush()
    return run.id


def end_stale_syncs(
    session: Session,
    channel_id: str,
    *,
    host: str,
    is_alive: Callable[[int, datetime, int | None], bool],
    now: datetime,
) -> int:
    """Mark runs as `interrupted` whose process is gone or sent no heartbeat for `LEASE`; return their number.

    Args:
        session: a write session.
        channel_id: the channel.
        host: this machine's name; only its processes can be checked.
        is_alive: called with a process id, a time at which the process was running, and the column `process_start`.
            Returns whether the process is still running.
        now: the current time.
    """
    query = select(SyncRun).where(SyncRun.channel_id == channel_id, SyncRun.status == "running").order_by(SyncRun.id)
    stale, time = 0, clock(session, now)
    for run in session.scalars(query):
        # Uses the last heartbeat, not the start: a process that started after it has reused the id, and a clock that
        # was set forward since the run began must not look like that.
        alive = run.host == host and is_alive(run.pid, run.seen_at or run.started_at, run.process_start)
        if alive and run.process_start is not None:
            continue
        if run.host == host and not alive:
            run.error = "the process ended unexpectedly (killed, or the machine stopped)"
        # Also if the time is far in the future: a clock that was ahead may have been corrected.
        elif abs(time - (run.seen_at or run.started_at)) > LEASE:
            run.error = f"its process sent no heartbeat for {LEASE.seconds // 60} minutes"
        else:
            continue
        run.status, run.finished_at = "interrupted", now
        stale += 1
    return stale


def sync_of_another(session: Session, channel_id: str, since: datetime, now: datetime) -> SyncRun | None:
    """Return a run of the channel that is running or ended well after `since`; None if the caller may sync.

    Runs that ended well after `now` are ignored, because a wrong clock wrote their time.

    Call it after `end_stale_syncs`, in the write transaction that inserts the caller's run. It locks the channel's row
    until that transaction ends, so that only one of several simultaneous callers gets None.
    """
    session.scalar(select(Channel.id).where(Channel.id == channel_id).with_for_update(key_share=True))
    query = select(SyncRun).where(
        SyncRun.channel_id == channel_id,
        or_(
            SyncRun.status == "running",
            and_(SyncRun.status.in_(DONE), SyncRun.finished_at > since, SyncRun.finished_at <= now + CLOCKS_DIFFER),
        ),
    )
    return session.scalar(query.order_by(SyncRun.id.desc()).limit(1))


def being_synced(session: Session, now: datetime) -> set[str]:
    """Return the ids of channels with a running sync whose process has sent a heartbeat within `LEASE`."""
    # A lookup in the index (channel_id, status, id) for each channel: an index of all running syncs does not exist.
    running = select(SyncRun.id).where(
        SyncRun.channel_id == Channel.id, SyncRun.status == "running", SyncRun.seen_at > clock(session, now) - LEASE
    )
    return set(session.scalars(select(Channel.id).where(running.exists())))


def record_heartbeat(session: Session, run_id: int, now: datetime) -> None:
    """Record that a run's process is still running."""
    session.execute(update(SyncRun).where(SyncRun.id == run_id).values(seen_at=clock(session, now)))


def last_syncs(session: Session) -> dict[str, LastSync]:
    """Return {channel id: outcome of its most recent syncs} for all channels with a finished or failed sync.

    Runs that were stopped by a spent quota or a signal are ignored, because they are unfinished.
    """
    # A few lookups in the index (channel_id, status, id) for each channel. Runs are never deleted, and a join, a
    # GROUP BY or `status IN (...)` would read all of them.
    of_each_status = union_all(
        *(
            select(func.max(SyncRun.id).label("id"))
            .where(SyncRun.channel_id == Channel.id, SyncRun.status == status)
            .correlate(Channel)
            for status in DONE
        )
    ).subquery()
    last_done = select(func.max(of_each_status.c.id)).scalar_subquery()
    done = select(Channel.id.label("channel_id"), last_done.label("run_id")).subquery()
    done_at = select(SyncRun.finished_at).where(SyncRun.id == done.c.run_id).scalar_subquery()
    failed_since = (
        SyncRun.channel_id == done.c.channel_id,
        SyncRun.status == "failed",
        SyncRun.id > func.coalesce(done.c.run_id, 0),
    )
    failed_at = select(func.max(SyncRun.finished_at)).where(*failed_since).scalar_subquery()
    failures = select(func.count(SyncRun.id)).where(*failed_since).scalar_subquery()
    rows = session.execute(select(done.c.channel_id, done_at, failed_at, failures))
    found = {channel_id: LastSync(*how) for channel_id, *how in rows}
    return {channel_id: last for channel_id, last in found.items() if last != LastSync()}


def add_counts(session: Session, run_id: int, counts: SyncCounts, *, key_fingerprint: str, now: datetime) -> None:
    """Add to a run's counters and the day's units. Call it last in a transaction, because runs share the day's row."""
    added = {f"added_{name}": getattr(counts, name) for name in _COUNTERS}
    if any(added.values()):
        if session.get_bind().dialect.name == "sqlite":
            session.execute(_ADD_ON_SQLITE, {"run_id": run_id, "now": now, **added})
        else:
            session.execute(_ADD_ON_POSTGRES, {"run_id": run_id, **added})
    add_units(session, key_fingerprint, counts.units, now)


def finish_sync(
    session: Session,
    run_id: int,
    status: SyncStatus,
    *,
    seconds: float,
    error: str | None,
    now: datetime,
) -> None:
    """Close a run; `complete` and `unchanged` also set the channel's `synced_at`."""
    run = session.get_one(SyncRun, run_id, populate_existing=True)
    if status in ("complete", "unchanged"):
        session.execute(update(Channel).where(Channel.id == run.channel_id).values(synced_at=now))
    run.status = status
    run.finished_at = now
    run.seconds = seconds
    run.error = error
    session.flush()


def get_sync(session: Session, run_id: int) -> SyncRun:
    """Read a run's row again from the database."""
    return session.get_one(SyncRun, run_id, populate_existing=True)


def refresh_began(session: Session, channel_id: str, *, since: datetime, now: datetime) -> datetime:
    """Return the time since which a video counts as read by the next refresh.

    This is `now`, unless refreshes stopped early since the last complete refresh and since `since`. Then it is the
    start of the first of them, so that the videos they read are not read again.
    """
    channel = session.get_one(Channel, channel_id)
    query = select(func.min(SyncRun.started_at)).where(
        SyncRun.channel_id == channel_id,
        SyncRun.mode == "refresh",
        SyncRun.status.in_(("quota", "interrupted", "failed")),
        SyncRun.started_at > since,
    )
    if channel.refreshed_at is not None:
        query = query.where(SyncRun.started_at > channel.refreshed_at)
    return session.scalar(query) or now
