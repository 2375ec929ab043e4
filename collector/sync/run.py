"""The state of a sync run: clients, clock, store, and the counters that are written with each transaction."""

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
from collector.store_thread import StoreThread, shielded
from collector.thumbnails import Thumbnails
from collector.youtube import YouTube
from store.tables import SyncMode
from store.youtube import SyncCounts, add_counts, add_units, quota_day, units_spent

__all__ = ["Clients", "Meter", "Run"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class Meter:
    """Counts the requests and units spent since the last `take`."""

    http: Http
    youtube: YouTube
    _requests: int = 0
    _units: int = 0

    def take(self) -> SyncCounts:
        """Return the requests and units spent since the last call."""
        requests, units = self.http.requests, self.youtube.units
        spent = SyncCounts(requests=requests - self._requests, units=units - self._units)
        self._requests, self._units = requests, units
        return spent

    def put_back(self, spent: SyncCounts) -> None:
        """Undo a `take` whose counts could not be written; the next `take` includes them."""
        self._requests -= spent.requests
        self._units -= spent.units


@dataclass
class Clients:
    """The objects that all runs of a command share, and those of the API key that a run uses."""

    settings: Settings
    http: Http
    youtube: YouTube
    thumbnails: Thumbnails
    store: StoreThread
    meter: Meter
    units_a_day: int | None
    """The units that all processes with this key may spend per day; None: no limit."""
    now: Callable[[], datetime]
    progress: Progress
    most_units: int | None = None
    """The units that may be spent with each key; None: no limit."""
    _youtubes: dict[str, YouTube] = field(default_factory=dict)
    """{key fingerprint: its client}, so that a spent quota is remembered for its key, and only for that."""

    def of_channel(self, channel_id: str | None) -> Clients:
        """Return the clients with the key of a channel's owner, see `Settings.of_channel`.

        Raises:
            MissingKey: there is no key for the channel.
        """
        settings = self.settings.of_channel(channel_id)
        if settings is self.settings:
            return self
        key = settings.key_fingerprint
        youtube = self._youtubes.setdefault(key, YouTube(self.http, settings, self.most_units))
        meter = Meter(self.http, youtube, self.http.requests, youtube.units)
        return replace(self, settings=settings, youtube=youtube, meter=meter)

    async def save_spent_units(self) -> SyncCounts:
        """Record units that belong to no run, such as a failed channel lookup, and return the counts.

        Raises:
            StoreError: the database failed.
        """
        spent = self.meter.take()
        if spent.units:
            await self.store.write(add_units, self.settings.key_fingerprint, spent.units, self.now())
        return spent


@dataclass
class Run:
    """A running sync of a channel."""

    clients: Clients
    id: int
    channel_id: str
    playlist_id: str
    mode: SyncMode
    thumbnail_size: str
    started_at: datetime
    refresh_from: datetime | None
    """Start of the refresh; videos and thumbnails read since then are not read again. None without `--refresh`."""
    error: CollectorError | None = None
    """The error that ended the listing; the rest of the work continues."""
    quota_spent: bool = False
    described: bool = False
    """Whether the lookup of the channel's name has already read the channel from the API."""
    notices: list[str] = field(default_factory=list)
    """Messages for the user that are not errors."""

    async def write(
        self,
        function: Callable[Concatenate[Session, P], T],
        counts: Callable[[T], SyncCounts],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Write a batch and its counts in one transaction, and return the result of `function`.

        A cancellation takes effect only after the write, because the batch has already cost quota units.
        """
        youtube, units_a_day = self.clients.youtube, self.clients.units_a_day
        spent, units = self.clients.meter.take(), youtube.units
        now = self.clients.now()
        key, run_id = self.clients.settings.key_fingerprint, self.id

        def both(session: Session) -> T:
            result = function(session, *args, **kwargs)
            # Flush first: every transaction locks the run's and the day's rows last, to prevent deadlocks.
            session.flush()
            total = replace(counts(result), requests=spent.requests, units=spent.units)
            add_counts(session, run_id, total, key_fingerprint=key, now=now)
            if units_a_day is not None:  # other processes may have spent units meanwhile
                youtube.most_units = units + units_a_day - units_spent(session, quota_day(now), key)
            return result

        result, cancelled = await shielded(self._written(both, spent))
        if cancelled:
            raise asyncio.CancelledError
        return result

    async def _written(self, write: Callable[[Session], T], spent: SyncCounts) -> T:
        try:
            return await self.clients.store.write(write)
        except Exception:
            self.clients.meter.put_back(spent)
            raise
