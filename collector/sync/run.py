"""One sync run as its stages see it: the clients, the clock, the store, and counters that go with each transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy.orm import Session

from collector.errors import CollectorError
from collector.http import Http
from collector.progress import Progress
from collector.settings import Settings
from collector.store_thread import StoreThread, to_its_end
from collector.thumbnails import Thumbnails
from collector.youtube import YouTube
from store.tables import SyncMode
from store.youtube import SyncCounts, add_counts, add_units, quota_day, units_spent

__all__ = ["Clients", "Meter", "Run"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Meter:
    """What was spent since it was last read: requests and units."""

    http: Http
    youtube: YouTube
    _requests: int = 0
    _units: int = 0

    def take(self) -> SyncCounts:
        """Requests and units since the last call."""
        requests, units = self.http.requests, self.youtube.units
        spent = SyncCounts(requests=requests - self._requests, units=units - self._units)
        self._requests, self._units = requests, units
        return spent

    def put_back(self, spent: SyncCounts) -> None:
        """Undo a `take` whose counts could not be written: they go with the next."""
        self._requests -= spent.requests
        self._units -= spent.units


@dataclass
class Clients:
    """What all runs of one command share."""

    settings: Settings
    http: Http
    youtube: YouTube
    thumbnails: Thumbnails
    store: StoreThread
    meter: Meter
    units_a_day: int | None
    """What all processes with this key may spend on a day."""
    now: Callable[[], datetime]
    progress: Progress

    async def save_spent_units(self) -> SyncCounts:
        """Count units that no run paid for (a channel that does not exist); what was spent.

        Raises:
            StoreError: the database failed.
        """
        spent = self.meter.take()
        if spent.units:
            await self.store.write(add_units, self.settings.key_fingerprint, spent.units, self.now())
        return spent


@dataclass
class Run:
    """One channel's sync while it runs."""

    clients: Clients
    id: int
    channel_id: str
    playlist_id: str
    mode: SyncMode
    thumbnail_size: str
    started_at: datetime
    refresh_from: datetime | None
    """With `--refresh`: videos read and pictures checked since then are not due again."""
    error: CollectorError | None = None
    """What ended the listing early while the rest could go on."""
    quota_spent: bool = False
    described: bool = False
    """Whether the API has described the channel just now, as its name was looked up."""
    notices: list[str] = field(default_factory=list)
    """Lines for the user that are no errors."""

    async def write(
        self,
        function: Callable[Concatenate[Session, P], T],
        counts: Callable[[T], SyncCounts],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Write one batch, and what it counts, in one transaction.

        It was paid for: whoever waits here may be cancelled, but not before it is written.
        """
        youtube, units_a_day = self.clients.youtube, self.clients.units_a_day
        spent, units = self.clients.meter.take(), youtube.units
        now = self.clients.now()
        key, run_id = self.clients.settings.key_fingerprint, self.id

        def both(session: Session) -> T:
            result = function(session, *args, **kwargs)
            # Pending changes go first: the run's and the day's rows are locked last in every transaction.
            session.flush()
            total = replace(counts(result), requests=spent.requests, units=spent.units)
            add_counts(session, run_id, total, key_fingerprint=key, now=now)
            if units_a_day is not None:  # others may have spent some meanwhile
                youtube.most_units = units + units_a_day - units_spent(session, quota_day(now), key)
            return result

        result, cancelled = await to_its_end(self._written(both, spent))
        if cancelled:
            raise asyncio.CancelledError
        return result

    async def _written(self, write: Callable[[Session], T], spent: SyncCounts) -> T:
        try:
            return await self.clients.store.write(write)
        except Exception:
            self.clients.meter.put_back(spent)
            raise
