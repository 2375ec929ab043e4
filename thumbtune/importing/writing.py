"""Write imported pairs to the store as a sync does: with the same checks, versions and history, in small batches."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from collector.errors import PictureError
from collector.http import Http
from collector.sync import DEFAULT_MIN_DURATION_S
from collector.thumbnails import Thumbnails, check_picture
from store.db import Database
from store.errors import AmbiguousHandle, NotFound
from store.processes import this_process
from store.tables import Channel, Kind, SyncStatus, Video
from store.training import this_machine
from store.types import utc_now
from store.youtube import (
    FailedPicture,
    FetchedPicture,
    ListedVideo,
    PictureJob,
    PictureOutcome,
    SyncCounts,
    UnchangedPicture,
    VideoDetails,
    add_counts,
    begin_sync,
    finish_sync,
    get_channel,
    holders_of,
    keep_files,
    pause_channel,
    record_details,
    record_page,
    record_pictures,
    save_channel,
)
from thumbtune.importing.channels import find_channel, without_url
from thumbtune.importing.reading import BadRow
from thumbtune.importing.sources import Row, Source
from thumbtune.standin.folder import duration_from
from thumbtune.stopping import run

__all__ = ["Imported", "import_rows"]

BATCH = 64
AT_ONCE = 16
"""The number of thumbnails to fetch concurrently."""


@dataclass
class Imported:
    """The result of an import.

    Args:
        rows: the number of rows in the source.
        new, changed, unchanged: the numbers of videos.
        bad: (row, reason) for each row that was left out.
        channels: {channel id: handle} of the channels that have rows.
    """

    rows: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    channels: dict[str, str | None] = field(default_factory=dict)


def import_rows(
    database: Database,
    source: Source,
    *,
    channel: str | None = None,
    hosts: tuple[str, ...] = (),
    advance: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Import all rows of a source; each channel gets its own sync in the history.

    A new channel is paused, because YouTube does not know it and `sync` can't update it.

    Args:
        database: the store, writable.
        source: see `open_source`.
        channel: the channel of rows without a channel: an id, a handle or any name; None: the source's name.
        hosts: hosts from which thumbnails may be fetched in addition to YouTube's, see `collector.settings.Settings`.
        advance: called with the number of rows just completed.

    Raises:
        StoreError: the database failed; the rows imported before that are kept.
    """
    return run(_Import(database, channel or source.name, advance).run(source.rows, hosts))


@dataclass(frozen=True)
class _Entry:
    """A row with the ids of its video and channel."""

    row: Row
    id: str
    channel_id: str

    @property
    def url(self) -> str | None:
        return self.row.picture if isinstance(self.row.picture, str) else None

    def item(self, known: Any) -> dict[str, Any]:
        """The stored part of the row, in the form of YouTube's API; the parts that the row lacks stay as stored.

        Args:
            known: the stored video, or None.
        """
        stored: dict[str, Any] = {"imported": True} if known is None else known.api_item or {}
        snippet: dict[str, Any] = {**stored.get("snippet", {}), "title": self.row.title}
        if self.row.published_at is not None:
            snippet["publishedAt"] = self.row.published_at.isoformat()
        if self.row.tags:
            snippet["tags"] = list(self.row.tags)
        if self.url is not None:
            snippet["thumbnails"] = {"high": {"url": self.url}}
        item = {**stored, "snippet": snippet}
        return item if self.row.duration_s is None else {**item, "duration_s": self.row.duration_s}


class _Import:
    def __init__(self, database: Database, channel: str, advance: Callable[[int], None]) -> None:
        self._database = database
        self._channel = channel
        self._advance = advance
        self._done = Imported()
        self._channels: dict[str, str] = {}
        self._runs: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        """{video id: where it first occurred}."""
        self._began = time.monotonic()
        self._now = utc_now()

    async def run(self, rows: Iterable[Row | tuple[str, BadRow]], hosts: tuple[str, ...]) -> Imported:
        status: SyncStatus = "interrupted"
        error: str | None = None
        try:
            async with Http() as http:
                thumbnails = Thumbnails(http, hosts)
                try:
                    for batch in _batches(rows):
                        await self._import_batch(batch, thumbnails)
                finally:
                    thumbnails.close()
            status = "complete"
        except Exception as failure:
            status, error = "failed", str(failure)
            raise
        finally:
            self._finish(status, error)
        return self._done

    async def _import_batch(self, rows: list[Row | tuple[str, BadRow]], thumbnails: Thumbnails) -> None:
        self._done.rows += len(rows)
        batch_rows: list[_Entry] = []
        before = dict(self._channels), dict(self._runs)
        try:
            with self._database.write() as session:
                for row in rows:
                    try:
                        if not isinstance(row, Row):
                            raise row[1]
                        batch_rows.append(self._named(session, row))
                    except BadRow as bad:
                        self._done.bad.append((row.where if isinstance(row, Row) else row[0], str(bad)))
                stored = _stored(session, [one.id for one in batch_rows])
        except BaseException:
            self._channels, self._runs = before  # the new ones were rolled back
            raise
        fetching = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(_picture(one, stored.get(one.id), thumbnails, fetching) for one in batch_rows))
        # Rows with a bad thumbnail are left out, so that the next import tries them again.
        changes: dict[str, list[tuple[_Entry, PictureOutcome]]] = {}
        for one, outcome in zip(batch_rows, found, strict=True):
            known = stored.get(one.id)
            if isinstance(outcome, FailedPicture):
                self._done.bad.append((one.row.where, f"its thumbnail {outcome.reason}"))
            elif known is not None and known.channel_id != one.channel_id:
                self._done.bad.append((one.row.where, f"the video {one.id} belongs to another channel"))
            elif isinstance(outcome, UnchangedPicture) and known is not None and _is_same(known, one):
                self._done.unchanged += 1
            else:
                changes.setdefault(one.channel_id, []).append((one, outcome))
        for channel_id, changed in changes.items():
            self._write(channel_id, changed, stored)
        self._advance(len(rows))

    def _named(self, session: Session, row: Row) -> _Entry:
        channel_id = self._channel_id(session, row.channel or self._channel, row.channel_title)
        if row.id is not None:
            name = row.id
        else:
            # Derived from the thumbnail, so that another title for it is a change, unless two rows have the same
            # thumbnail; and from the channel and the source's folder, because file names such as 001.jpg are common.
            key = channel_id.encode() + b" " + row.key
            name = _id_from(key)
            if name in self._ids:
                name = _id_from(key + row.title.encode())
        if name in self._ids:
            raise BadRow(f"it is the same video as {self._ids[name]}")
        self._ids[name] = row.where
        return _Entry(row, name, channel_id)

    def _channel_id(self, session: Session, name: str, title: str | None = None) -> str:
        """Return the id of a row's channel, which is created if it is new.

        Args:
            session: a writing session.
            name: the channel's id, URL, handle or name.
            title: the title or handle of a new channel that is named by its id.
        """
        known = self._channels.get(name)
        if known is not None:
            return known
        name, spelled = without_url(name), name
        try:
            id_, handle = find_channel(session, name)
        except AmbiguousHandle as error:
            raise BadRow(str(error)) from error
        if handle is None and title is not None and title.startswith("@") and not holders_of(session, title):
            handle = title
        try:
            handle = get_channel(session, id_).handle
        except NotFound:
            save_channel(
                session,
                channel_id=id_,
                handle=handle,
                title=(title or name).removeprefix("@"),
                uploads_playlist_id="UU" + id_[2:],
                api_item={"imported": True},
                default_min_duration_s=DEFAULT_MIN_DURATION_S,
                default_thumbnail_size="high",
                now=self._now,
            )
            pause_channel(session, id_, self._now)
        self._channels[spelled] = id_
        self._done.channels.setdefault(id_, handle)
        if id_ not in self._runs:  # a channel may be spelled in several ways
            pid, start = this_process()
            self._runs[id_] = begin_sync(
                session, id_, "full", host=this_machine(), pid=pid, process_start=start, now=self._now
            )
        return id_

    def _write(self, channel_id: str, changes: list[tuple[_Entry, PictureOutcome]], stored: Mapping[str, Any]) -> None:
        now = utc_now()
        kept = keep_files(self._database, [outcome for _, outcome in changes])
        with self._database.write() as session:
            minimum = get_channel(session, channel_id).min_duration_s
            page = record_page(
                session,
                channel_id,
                [ListedVideo(one.id, one.row.title, one.row.published_at, "available") for one, _ in changes],
                now=now,
                known_until=None,
            )
            found = [_details(one, minimum, stored.get(one.id)) for one, _ in changes]
            details = record_details(session, found, [], now=now, started_at=self._now)
            pictures = record_pictures(session, kept, now=now, started_at=self._now)
            counts = SyncCounts(
                listed=len(changes),
                new=page.new,
                changed=max(details.changed, pictures.changed),
                pictures_fetched=pictures.fetched,
                pictures_unchanged=pictures.unchanged,
            )
            add_counts(session, self._runs[channel_id], counts, key_fingerprint="import", now=now)
        self._done.new += page.new
        self._done.changed += len(changes) - page.new

    def _finish(self, status: SyncStatus, error: str | None) -> None:
        if not self._runs:
            return
        with self._database.write() as session:
            for run_id in self._runs.values():
                seconds = time.monotonic() - self._began
                finish_sync(session, run_id, status, seconds=seconds, error=error, now=utc_now())


def _batches(rows: Iterable[Row | tuple[str, BadRow]]) -> Iterator[list[Row | tuple[str, BadRow]]]:
    batch: list[Row | tuple[str, BadRow]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _stored(session: Session, ids: list[str]) -> dict[str, Any]:
    facts = (Video.api_item, Video.availability, Video.duration_s, Video.kind, Video.published_at)
    columns = (Video.id, Video.channel_id, Video.title, Video.picture_sha256, *facts)
    rows = session.execute(select(*columns).join(Channel).where(Video.id.in_(ids), Channel.removed_at.is_(None)))
    return {row.id: row for row in rows}


def _is_same(known: Any, one: _Entry) -> bool:
    return bool(
        known.title == one.row.title and known.api_item == one.item(known) and known.availability == "available"
    )


async def _picture(one: _Entry, known: Any, thumbnails: Thumbnails, fetching: asyncio.Semaphore) -> PictureOutcome:
    """Fetch or read the row's thumbnail and check it; unchanged if the store has it."""
    if one.url is not None:
        has_it = known is not None and known.picture_sha256 is not None
        if has_it and (known.api_item or {}).get("snippet", {}).get("thumbnails") == {"high": {"url": one.url}}:
            return UnchangedPicture(one.id)
        async with fetching:
            job = PictureJob(one.id, {"high": {"url": one.url}}, None, None, None)
            outcome, _ = await thumbnails.fetch(job, "high")
            return outcome
    return _read(one, known)


def _read(one: _Entry, known: Any) -> PictureOutcome:
    picture = one.row.picture
    assert not isinstance(picture, str)
    try:
        data = picture if isinstance(picture, bytes) else picture.read_bytes()
        if known is not None and hashlib.sha256(data).hexdigest() == known.picture_sha256:
            return UnchangedPicture(one.id)
        checked = check_picture(data)
    except OSError as error:
        return FailedPicture(one.id, None, f"can't be read ({error.strerror})")
    except PictureError as error:
        return FailedPicture(one.id, None, str(error))
    where = one.row.where if isinstance(picture, bytes) else picture.resolve().as_uri()
    return FetchedPicture(one.id, where, data, checked.sha256, checked.mime, checked.width, checked.height, None, None)


def _details(one: _Entry, minimum: int, known: Any) -> VideoDetails:
    """Return the row's details; values that the row does not have keep the stored value."""
    given = one.row.duration_s
    kind: Kind = "video"
    duration = duration_from(one.id) if given is None else given
    if given is not None and given < minimum:
        kind = "short"
    elif given is None and known is not None:
        duration, kind = known.duration_s, known.kind
    return VideoDetails(
        id=one.id,
        title=one.row.title,
        published_at=one.row.published_at or (None if known is None else known.published_at),
        duration_s=duration,
        kind=kind,
        api_item=one.item(known),
        thumbnails={},
    )


def _id_from(identity: bytes) -> str:
    """An id for a row without one; longer than YouTube's ids, so that they can't be confused."""
    return "file-" + hashlib.sha256(identity).hexdigest()[:16]
