"""Videos: write pages of the listing and batches of details; decide which videos are pairs.

Every writing function locks the rows it changes in the order of their ids, so that processes that sync the same
channel wait for each other instead of deadlocking. The locks do not include the keys (`key_share`), so that rows of
other tables that refer to a locked video can be written at the same time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, bindparam, case, func, select
from sqlalchemy.orm import Session

from store.db import insert, unsound, update_rows
from store.tables import Availability, Kind, PictureFailure, Video
from store.types import CLOCKS_DIFFER
from store.youtube.pictures import PictureJob
from store.youtube.readings import Counts, record_readings
from store.youtube.unread import unsettled_in_feed
from store.youtube.versions import CurrentVersion, VersionChanges, current_versions

__all__ = [
    "NOT_PAIRS",
    "DetailsResult",
    "ListedVideo",
    "PageResult",
    "VideoDetails",
    "add_from_feed",
    "any_available",
    "count_not_pairs",
    "is_pair",
    "lock_videos",
    "record_details",
    "record_page",
]

NOT_PAIRS = ("short", "upcoming", "live", "private", "gone", "unknown", "no_picture")
"""Why a video is not a pair. If several reasons apply, `private` and `gone` come first, then this order."""


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One entry of the uploads playlist."""

    id: str
    title: str
    published_at: datetime | None
    availability: Availability


@dataclass(frozen=True, slots=True)
class PageResult:
    """The result of writing a page of the listing."""

    new: int
    gone: int
    wanted: tuple[str, ...]
    """Ids of videos whose details must be read: new videos, and videos that became available again."""
    all_known: bool
    """Whether every entry was known before the last complete listing ended."""


@dataclass(frozen=True, slots=True)
class VideoDetails:
    """One item of the `videos` endpoint."""

    id: str
    title: str
    published_at: datetime | None
    duration_s: int | None
    kind: Kind
    api_item: dict[str, Any]
    thumbnails: dict[str, Any]
    counts: Counts | None = None
    """None if the API returned no counts."""
    may_be_short: bool = False
    """Whether the channel's Shorts playlist decides between the kinds `video` and `short`."""


@dataclass(frozen=True, slots=True)
class DetailsResult:
    """The result of writing a batch of details."""

    changed: int
    gone: int
    pictures: tuple[PictureJob, ...]
    """Thumbnails to fetch or check again."""


def is_pair() -> ColumnElement[bool]:
    """Whether a video is usable for training and has a thumbnail: the condition of the view `pairs`."""
    return and_(_wants_picture(), Video.picture_sha256.is_not(None))


def _wants_picture() -> ColumnElement[bool]:
    return and_(
        Video.kind == "video",
        Video.availability == "available",
        Video.duration_s.is_not(None),
        func.trim(Video.title) != "",
    )


def record_page(
    session: Session,
    channel_id: str,
    entries: Iterable[ListedVideo],
    *,
    now: datetime,
    known_until: datetime | None,
) -> PageResult:
    """Write one page of the uploads playlist: insert new videos, and update the availability of known videos.

    `known_until` is when the last complete listing ended. Videos first seen after it may come from an interrupted
    listing with a gap behind them, so they do not count as known.
    """
    listed = {entry.id: entry for entry in sorted(entries, key=lambda entry: entry.id)}
    rows = [
        {
            "id": entry.id,
            "channel_id": channel_id,
            "title": entry.title,
            "published_at": entry.published_at,
            "kind": "unknown",
            "availability": entry.availability,
            "first_seen_at": now,
            "last_seen_at": now,
        }
        for entry in listed.values()
    ]
    if not rows:  # an empty page says nothing about later pages
        return PageResult(0, 0, (), all_known=False)
    statement = insert(session, Video).on_conflict_do_nothing().returning(Video.id)
    added = set(session.scalars(statement, rows))
    known = _locked(session, listed.keys() - added)
    gone, returned, updates = 0, [], []
    for video in known:
        seen = listed[video.id].availability
        gone += video.availability == "available" != seen
        if seen == "available" != video.availability:
            returned.append(video.id)
        updates.append({"id": video.id, "last_seen_at": now, "availability": seen})
    update_rows(session, Video, updates)
    # A video that is listed again may still be unavailable, so its details must be read. Its thumbnail may differ.
    unread = {"details_at": None, "picture_checked_at": None}
    update_rows(session, Video, [{"id": video_id, **unread} for video_id in returned])
    all_known = known_until is not None and not added and all(_is_known(v, known_until, now) for v in known)
    new_available = [i for i in listed if i in added and listed[i].availability == "available"]
    return PageResult(len(added), gone, tuple(new_available + returned), all_known)


def _is_known(video: Row[Any], known_until: datetime, now: datetime) -> bool:
    """Whether a complete listing has shown the video. A time in the future (wrong clock) counts as old."""
    first_seen_at: datetime = video.first_seen_at
    return first_seen_at <= known_until or first_seen_at > now + CLOCKS_DIFFER


def record_details(
    session: Session,
    found: Sequence[VideoDetails],
    missing: Sequence[str],
    *,
    now: datetime,
    started_at: datetime,
    recheck_before: datetime | None = None,
) -> DetailsResult:
    """Write one response of the `videos` endpoint.

    A changed title creates a new version without a thumbnail, and the thumbnail becomes due: it may have changed with
    the title, and a version holds a title and a thumbnail that were seen together.

    Args:
        session: a write session.
        found: the details in the response.
        missing: the requested ids that the response does not contain.
        now: the current time.
        started_at: the start of the sync.
        recheck_before: thumbnails last checked before this time are due, too (`--refresh`; see `pictures_due`).
    """
    details = {item.id: item for item in found}
    videos = _locked(session, details.keys() | set(missing))
    versions = current_versions(session, details.keys())
    failures = _failures(session, details.keys())
    lost, read, unchecked, history, due = [], [], [], VersionChanges(now), []
    changed = gone = 0
    for video in videos:
        if video.id not in details:
            listed = video.availability == "available"
            # A video that was gone, was listed again and has no details is still gone: it is not counted twice.
            came_back = video.details_at is None and video.last_seen_at > video.first_seen_at
            gone += listed and not came_back
            availability = "gone" if listed else video.availability
            lost.append({"id": video.id, "details_at": now, "availability": availability})
            continue
        item = _classified(details[video.id], video)
        version = versions.get(video.id)
        renamed = version is None or version.title != item.title
        if version is None or version.title != item.title:
            history.add(version, video.id, item.title, None)
            # Counted once per sync, even if both title and thumbnail changed.
            changed += version is not None and version.first_seen_at < started_at
        elif _shown_since(version, video):
            # This title was read both before and after the thumbnail was fetched.
            history.show(version, video.id, video.picture_sha256)
        else:
            history.seen(version)
        read.append(_read(item, video.published_at, now))
        may_differ = renamed or video.availability != "available"
        if may_differ and video.picture_sha256 is not None:
            unchecked.append({"id": video.id, "picture_checked_at": None})
        # The thumbnail of a possible Short is fetched after the Shorts playlist was queried (see `is_held`).
        held = item.may_be_short and video.shorts_asked_at is None
        if (
            not held
            and _is_wanted(item)
            and _is_due(None if may_differ else video.picture_checked_at, failures.get(video.id), now, recheck_before)
        ):
            due.append((video, item.thumbnails))
    update_rows(session, Video, lost)
    update_rows(session, Video, read)
    update_rows(session, Video, unchecked)
    history.write(session)
    # Only for videos in the store: a response can contain ids that were not requested.
    counts = {video.id: details[video.id].counts for video in videos if video.id in details}
    record_readings(session, {video_id: of for video_id, of in counts.items() if of is not None}, now)
    damaged = unsound(session, {video.picture_sha256 for video, _ in due} - {None})
    jobs = tuple(PictureJob.of(video, thumbnails, damaged) for video, thumbnails in due)
    return DetailsResult(changed, gone, jobs)


def _shown_since(version: CurrentVersion, video: Row[Any]) -> bool:
    """Whether the video's thumbnail differs from the version's and was checked after the version was first seen."""
    return (
        video.picture_sha256 not in (None, version.picture_sha256)
        and video.picture_checked_at is not None
        and video.picture_checked_at >= version.first_seen_at
    )


def _classified(item: VideoDetails, video: Row[Any]) -> VideoDetails:
    """Return the details with the kind set by the Shorts playlist, if that decides."""
    if not item.may_be_short or video.in_shorts_list is None:
        return item
    return replace(item, kind="short" if video.in_shorts_list else "video")


def _read(item: VideoDetails, published_at: datetime | None, now: datetime) -> dict[str, Any]:
    """The columns of a video whose details were read."""
    return {
        "id": item.id,
        "title": item.title,
        "published_at": item.published_at or published_at,
        "duration_s": item.duration_s,
        "kind": item.kind,
        "availability": "available",
        "api_item": item.api_item,
        "last_seen_at": now,
        "details_at": now,
    }


def _is_due(
    checked_at: datetime | None, next_try_at: datetime | None, now: datetime, recheck_before: datetime | None
) -> bool:
    """Whether a thumbnail is due, like `pictures_due`. `next_try_at` is set if its last fetch failed."""
    if next_try_at is not None:
        return next_try_at <= now
    return checked_at is None or (recheck_before is not None and checked_at < recheck_before)


def _is_wanted(item: VideoDetails) -> bool:
    """`_wants_picture` for details that are not written yet."""
    return item.kind == "video" and item.duration_s is not None and item.title.strip(" ") != ""


def lock_videos(session: Session, channel_id: str | None = None) -> None:
    """Lock all videos, or a channel's, in the order of their ids, before the transaction takes other locks.

    Writers then wait for each other without deadlocks, and the second of two trainers sees the splits of the first.
    Rows that refer to a video, such as a snapshot's examples, can still be inserted. SQLite needs no row locks, because
    a write transaction is exclusive from its start.
    """
    if session.get_bind().dialect.name == "sqlite":
        return
    query = select(Video.id).order_by(Video.id).with_for_update(key_share=True)
    session.execute(query if channel_id is None else query.where(Video.channel_id == channel_id)).all()


def _locked(session: Session, ids: Collection[str]) -> list[Row[Any]]:
    """Lock the rows with these ids, and read the columns that the writers need, in the order of ids."""
    if not ids:
        return []
    return list(session.execute(_LOCKED, {"ids": list(ids)}))


def _failures(session: Session, ids: Iterable[str]) -> dict[str, datetime]:
    return dict(session.execute(_FAILURES, {"ids": list(ids)}).all())


# Module-level because every transaction of a sync executes them.
_LOCKED = (
    select(
        Video.id,
        Video.availability,
        Video.published_at,
        Video.first_seen_at,
        Video.last_seen_at,
        Video.details_at,
        *(Video.picture_sha256, Video.picture_url, Video.picture_etag, Video.picture_last_modified),
        Video.picture_checked_at,
        *(Video.in_shorts_list, Video.shorts_asked_at),
    )
    .where(Video.id.in_(bindparam("ids", expanding=True)))
    .order_by(Video.id)
    .with_for_update(key_share=True)
)
_FAILURES = select(PictureFailure.video_id, PictureFailure.next_try_at).where(
    PictureFailure.video_id.in_(bindparam("ids", expanding=True))
)


def any_available(session: Session, channel_id: str) -> bool:
    """Whether the store has an available video of the channel."""
    query = select(Video.id).where(Video.channel_id == channel_id, Video.availability == "available")
    return session.scalar(query.limit(1)) is not None


def add_from_feed(
    session: Session,
    channel_id: str,
    ids: Sequence[str],
    *,
    now: datetime,
    listed_at: datetime | None,
    asked_since: datetime,
) -> tuple[int, list[str]]:
    """Insert the feed's videos that the store lacks.

    The playlist is sorted by date, so a video that was scheduled or unlisted for long may be far from its start. New
    rows are marked as first seen at `listed_at`, when the last listing ended; a later time would look like an
    unfinished listing.

    Returns:
        The number of inserted videos, and the ids of all videos to read (see `unsettled_in_feed`).
    """
    to_read = unsettled_in_feed(session, ids, asked_since=asked_since)
    added: set[str] = set()
    if to_read:
        row = {"channel_id": channel_id, "title": "", "kind": "unknown", "availability": "available"}
        seen = {"first_seen_at": min(now, listed_at or now), "last_seen_at": now}
        statement = insert(session, Video).on_conflict_do_nothing().returning(Video.id)
        added = set(session.scalars(statement, [{"id": video_id, **row, **seen} for video_id in sorted(to_read)]))
    return len(added), to_read


def count_not_pairs(session: Session, channel_id: str) -> dict[str, int]:
    """Return {reason: number of the channel's videos that are not pairs} with every reason of `NOT_PAIRS`."""
    reason = case(
        (Video.availability != "available", Video.availability),
        (Video.kind != "video", Video.kind),
        else_="no_picture",
    )
    query = select(reason, func.count()).where(Video.channel_id == channel_id, ~is_pair()).group_by(reason)
    counts: dict[str, int] = dict(session.execute(query).all())
    return {why: counts.get(why, 0) for why in NOT_PAIRS}
