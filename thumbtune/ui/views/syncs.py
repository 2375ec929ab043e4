"""The collected data: channels, syncs, quota units, failed thumbnails, and the next syncs of `watch`."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from sqlalchemy.orm import Session

from store.types import utc_now
from store.youtube import (
    ChannelSummary,
    Failure,
    LastSync,
    count_failures,
    count_kinds,
    failures,
    last_syncs,
    next_quota_day,
    quota_day,
    recent_syncs,
    summaries,
    units_by_key,
)
from thumbtune.ui.site import SITE

__all__ = ["show"]

_SYNCS = 25
_FAILURES = 100
_KINDS = ("video", "short", "live", "upcoming", "unknown", "private", "gone")


@dataclass(frozen=True)
class _Collected:
    channels: list[ChannelSummary]
    kinds: dict[str, dict[str, int]]
    syncs: list[Any]
    failed: list[Failure]
    n_failed: int
    units: dict[str, int]
    """{key fingerprint: units spent today}."""
    last: dict[str, LastSync]


async def show(request: web.Request) -> web.Response:
    """GET /syncs."""
    site, now = request.app[SITE], utc_now()

    def read(session: Session) -> _Collected:
        return _Collected(
            summaries(session),
            count_kinds(session),
            recent_syncs(session, _SYNCS),
            failures(session, _FAILURES),
            count_failures(session),
            units_by_key(session, quota_day(now)),
            last_syncs(session),
        )

    found = await site.store.read(read)
    units_a_day = site.settings.units
    return site.page(
        request,
        "syncs.html",
        active="syncs",
        found=found,
        kinds=[kind for kind in _KINDS if any(counts.get(kind) for counts in found.kinds.values())],
        handles={channel.id: channel.handle or channel.title for channel in found.channels},
        units_a_day=units_a_day,
        units_left={key: max(0, units_a_day - spent) for key, spent in found.units.items()} or {"": units_a_day},
        quota_renews=next_quota_day(now),
        every_h=f"{site.settings.every / timedelta(hours=1):g}",
        due=_due(found, site.settings.every, now),
        now=now,
    )


def _due(found: _Collected, every: timedelta, now: datetime) -> list[tuple[str, datetime | None]] | None:
    """Return when `watch` would sync each channel that is not paused, by its own schedule; a time of None means now.

    Returns None if the extra that `watch` needs is not installed.
    """
    try:
        from collector.watch import Rhythm, Turn, due_at  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError:
        return None
    rhythm = Rhythm(every, socket.gethostname())
    turns = []
    for channel in found.channels:
        if channel.paused_at is not None:
            continue
        last = found.last.get(channel.id, LastSync())
        at = due_at(rhythm, Turn(channel.id, last.done_at, last.failed_at, last.failures), now)
        turns.append((channel.handle or channel.title, None if at <= now else at))
    return sorted(turns, key=lambda turn: turn[1] or now)
