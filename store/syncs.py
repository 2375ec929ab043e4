"""Sync runs: one row each, opened at the start and updated in the same transactions as the rows it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from store.quota import add_units
from store.tables import Channel, SyncMode, SyncRun, SyncStatus

__all__ = ["SyncCounts", "add_counts", "begin_sync", "end_stale_syncs", "finish_sync", "get_sync", "refresh_began"]


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


def begin_sync(session: Session, channel_id: str, mode: SyncMode, *, host: str, pid: int, now: datetime) -> int:
    """Open a run, `running`, and return its id."""
    run = SyncRun(channel_id=channel_id, mode=mode, status="running", started_at=now, host=host, pid=pid)
    session.add(run)
    session.flush()
    return run.id


def end_stale_syncs(
    session: Session, channel_id: str, *, host: str, is_alive: Callable[[int], bool], now: datetime
) -> int:
    """Mark runs of this host whose process is gone as `interrupted`; how many there were."""
    query = select(SyncRun).where(SyncRun.channel_id == channel_id, SyncRun.status == "running", SyncRun.host == host)
    stale = [run for run in session.scalars(query.order_by(SyncRun.id)) if not is_alive(run.pid)]
    for run in stale:
        run.status = "interrupted"
        run.finished_at = now
        run.error = "the process ended without a word (killed, or the machine stopped)"
    return len(stale)


def add_counts(session: Session, run_id: int, counts: SyncCounts, *, key_fingerprint: str, now: datetime) -> None:
    """Add to a run's counters, and its units to the day's. Call it last in a transaction: the day's row is shared."""
    added = {field.name: getattr(counts, field.name) for field in fields(counts)}
    values = {name: getattr(SyncRun, name) + n for name, n in added.items() if n}
    if values:
        session.execute(update(SyncRun).where(SyncRun.id == run_id).values(values))
    add_units(session, key_fingerprint, counts.units, now)


def finish_sync(
    session: Session,
    run_id: int,
    status: SyncStatus,
    *,
    seconds: float,
    error: str | None,
    now: datetime,
) -> SyncRun:
    """Close a run and return its row; `complete` and `unchanged` also count as the channel's last good sync."""
    run = session.get_one(SyncRun, run_id, populate_existing=True)
    run.status = status
    run.finished_at = now
    run.seconds = seconds
    run.error = error
    if status in ("complete", "unchanged"):
        session.execute(update(Channel).where(Channel.id == run.channel_id).values(synced_at=now))
    session.flush()
    return run


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
