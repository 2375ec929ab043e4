"""Sync runs: one row each, opened at the start and updated in the same transactions as the rows it counts."""

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
    "begin_sync",
    "end_stale_syncs",
    "finish_sync",
    "get_sync",
    "last_syncs",
    "refresh_began",
    "say_alive",
    "sync_of_another",
]

LEASE = timedelta(minutes=10)
"""A sync that was not heard of for so long counts as dead, whatever its machine says of its process."""

DONE = ("complete", "unchanged", "partial")


@dataclass(frozen=True, slots=True)
class SyncCounts:
    """What one transaction adds to a sync run's counters."""

    listed: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0
    pictures_fetched: int = 0
    pictures_unchanged: int = 0
    pictures_failed: int = 0
    requests: int = 0
    units: int = 0


# Built once: it runs in every transaction of a sync.
_COUNTERS = tuple(field.name for field in fields(SyncCounts))
_ADD = (
    update(SyncRun)
    .where(SyncRun.id == bindparam("run_id"))
    .values({name: getattr(SyncRun, name) + bindparam(f"added_{name}", type_=Integer) for name in _COUNTERS})
    .values(seen_at=bindparam("now"))
    .execution_options(synchronize_session=False)
)


@dataclass(frozen=True, slots=True)
class LastSync:
    """How a channel's syncs went of late.

    Attributes:
        done_at: when the last one ended that did all it could; None for none.
        failed_at: when the last one after that failed; None when none did.
        failures: how many have failed since.
    """

    done_at: datetime | None = None
    failed_at: datetime | None = None
    failures: int = 0


def begin_sync(session: Session, channel_id: str, mode: SyncMode, *, host: str, pid: int, now: datetime) -> int:
    """Open a run, `running`, and return its id."""
    run = SyncRun(channel_id=channel_id, mode=mode, status="running", started_at=now, host=host, pid=pid, seen_at=now)
    session.add(run)
    session.flush()
    return run.id


def end_stale_syncs(
    session: Session, channel_id: str, *, host: str, is_alive: Callable[[int, datetime], bool], now: datetime
) -> int:
    """Mark runs as `interrupted` whose process is gone, or was not heard of for `LEASE`; how many there were.

    Args:
        session: in a write transaction.
        channel_id: whose runs.
        host: this machine's name; only its processes can be asked for.
        is_alive: whether the process with this id, which was at work at this time, still runs.
        now: the time.
    """
    query = select(SyncRun).where(SyncRun.channel_id == channel_id, SyncRun.status == "running").order_by(SyncRun.id)
    stale = 0
    for run in session.scalars(query):
        # By its last sign of life: a process that began after it is another one of that number. Clocks that were put
        # forward since the run began must not make it look so.
        if run.host == host and not is_alive(run.pid, run.seen_at or run.started_at):
            run.error = "the process ended without a word (killed, or the machine stopped)"
        elif abs(now - (run.seen_at or run.started_at)) > LEASE:  # either way: clocks that ran ahead are put right
            run.error = f"nothing was heard of its process for {LEASE.seconds // 60} minutes"
        else:
            continue
        run.status, run.finished_at = "interrupted", now
        stale += 1
    return stale


def sync_of_another(session: Session, channel_id: str, since: datetime, now: datetime) -> SyncRun | None:
    """A run of the channel that is at work, or that ended well after `since`; None leaves the channel to the caller.

    One that ended well after `now` says nothing: its clock ran ahead.

    Call it in the write transaction that begins the caller's own run, after `end_stale_syncs`: the channel's row is
    locked until that one ends, so that of several processes that ask at once, one gets None.
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


def say_alive(session: Session, run_id: int, now: datetime) -> None:
    """Note that a run still runs."""
    session.execute(update(SyncRun).where(SyncRun.id == run_id).values(seen_at=now))


def last_syncs(session: Session) -> dict[str, LastSync]:
    """{channel id: how its syncs went of late} for all channels that were ever synced to an end.

    Runs that were stopped, by a spent quota or a signal, say nothing: there is more to do.
    """
    # A few looks into the index (channel_id, status, id) for each channel. All runs are kept for good; a join with
    # them, a GROUP BY over them or `status IN (...)` would read them all.
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
    """Add to a run's counters, and its units to the day's. Call it last in a transaction: the day's row is shared."""
    added = {f"added_{name}": getattr(counts, name) for name in _COUNTERS}
    if any(added.values()):
        session.execute(_ADD, {"run_id": run_id, "now": now, **added})
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
    """Close a run; `complete` and `unchanged` also count as the channel's last good sync."""
    run = session.get_one(SyncRun, run_id, populate_existing=True)
    if status in ("complete", "unchanged"):
        session.execute(update(Channel).where(Channel.id == run.channel_id).values(synced_at=now))
    run.status = status
    run.finished_at = now
    run.seconds = seconds
    run.error = error
    session.flush()


def get_sync(session: Session, run_id: int) -> SyncRun:
    """A run's row as it is now."""
    return session.get_one(SyncRun, run_id, populate_existing=True)


def refresh_began(session: Session, channel_id: str, *, since: datetime, now: datetime) -> datetime:
    """From when on a video counts as read by the refresh that is to be done.

    `now`, unless refreshes since the last whole one, and since `since`, stopped early: then the first of those began
    it, and what they read is not read again.
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
