"""Thumbnails: find those that are due, and write the results of a batch of fetches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, func, or_, select
from sqlalchemy.orm import Session, defer

from store.db import Database, insert, insert_rows, put_files, require_place, unsound, update_rows
from store.tables import Picture, PictureFailure, Video
from store.types import before
from store.youtube.shorts import is_held
from store.youtube.versions import VersionChanges, current_versions

__all__ = [
    "any_picture_due",
    "keep_files",
    "mark_lost",
    "FailedPicture",
    "FetchedPicture",
    "PictureJob",
    "PictureOutcome",
    "PicturesResult",
    "UnchangedPicture",
    "pause_after",
    "pictures_due",
    "record_pictures",
]

TOGETHER = timedelta(hours=24)
"""How long before a changed thumbnail its title may have been read. If the title is older, it is read again first.
Within this time, failed thumbnails are fetched again without spending a quota unit."""
FIRST_PAUSE = timedelta(hours=1)
PAUSE_GROWTH = 4
LONGEST_PAUSE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class PictureJob:
    """A thumbnail to fetch: the URLs of the API, and the validators of the stored thumbnail."""

    video_id: str
    thumbnails: dict[str, Any]
    """`snippet.thumbnails` of the API: {size: {"url", "width", "height"}}."""
    url: str | None
    etag: str | None
    last_modified: str | None

    @classmethod
    def of(cls, video: Video | Row[Any], thumbnails: dict[str, Any], unsound: Collection[str]) -> Self:
        """Build the job from a row with a video's `id` and `picture_...` columns.

        A missing thumbnail, or one whose digest is in `unsound`, is fetched without a conditional request.
        """
        if video.picture_sha256 is None or video.picture_sha256 in unsound:
            return cls(video.id, thumbnails, None, None, None)
        return cls(video.id, thumbnails, video.picture_url, video.picture_etag, video.picture_last_modified)


@dataclass(frozen=True, slots=True)
class FetchedPicture:
    """A thumbnail that was fetched and successfully decoded."""

    video_id: str
    url: str
    data: bytes
    sha256: str
    mime: str
    width: int
    height: int
    etag: str | None
    last_modified: str | None
    place_id: int | None = None
    """The place to which `keep_files` wrote the file; None: it is written to the database."""


@dataclass(frozen=True, slots=True)
class UnchangedPicture:
    """The server reported that the stored thumbnail is unchanged."""

    video_id: str


@dataclass(frozen=True, slots=True)
class FailedPicture:
    """A thumbnail that could not be fetched."""

    video_id: str
    url: str | None
    reason: str


PictureOutcome = FetchedPicture | UnchangedPicture | FailedPicture


@dataclass(frozen=True, slots=True)
class PicturesResult:
    """Counts of a batch of thumbnails."""

    fetched: int
    unchanged: int
    failed: int
    changed: int
    """Videos whose thumbnail changed."""


def pause_after(tries: int) -> timedelta:
    """The pause after `tries` failures: 1 h, 4 h, 16 h, ... at most 30 days."""
    if tries > 6:
        return LONGEST_PAUSE
    growth: int = PAUSE_GROWTH ** max(0, tries - 1)
    return min(LONGEST_PAUSE, FIRST_PAUSE * growth)


def pictures_due(
    session: Session,
    channel_id: str,
    *,
    after: str,
    now: datetime,
    read_before: datetime,
    recheck_before: datetime | None = None,
    started_at: datetime | None = None,
    held: bool = False,
    limit: int = 200,
) -> list[PictureJob]:
    """Return the thumbnails to fetch of videos whose details were read before `read_before`, ordered by id.

    A thumbnail is due if it was never fetched, if it was not checked since its title changed or its video became
    available again, or if it failed and its pause is over.

    Args:
        session: any session.
        channel_id: the channel.
        after: only videos with a greater id.
        now: the current time.
        read_before: only videos whose details were read before this time.
        recheck_before: also thumbnails that were last checked before this time.
        started_at: the start of the sync. Then only videos that wait for the Shorts playlist are returned (`held`), or
            only the others; see `store.youtube.shorts.is_held`.
        held: see `started_at`.
        limit: the maximum number of thumbnails.
    """
    due: ColumnElement[bool] = or_(Video.picture_checked_at.is_(None), PictureFailure.video_id.is_not(None))
    if recheck_before is not None:
        unchecked = before(Video.picture_checked_at, recheck_before, now)
        due = or_(due, and_(unchecked, Video.details_at >= recheck_before))
    query = (
        select(Video, Video.api_item[("snippet", "thumbnails")])
        .options(defer(Video.api_item))
        .outerjoin(PictureFailure, PictureFailure.video_id == Video.id)
        .where(
            Video.channel_id == channel_id,
            Video.id > after,
            Video.kind == "video",
            Video.availability == "available",
            Video.duration_s.is_not(None),
            func.trim(Video.title) != "",
            before(Video.details_at, read_before, now),
            due,
            or_(
                PictureFailure.video_id.is_(None),
                PictureFailure.next_try_at <= now,
                PictureFailure.last_failed_at > now,  # written by a clock that was ahead
            ),
        )
        .order_by(Video.id)
        .limit(limit)
    )
    if started_at is not None:
        waits = is_held(session, channel_id, started_at=started_at)
        query = query.where(waits if held else ~waits)
    found = session.execute(query).all()
    damaged = unsound(session, {video.picture_sha256 for video, _ in found} - {None})
    return [
        PictureJob.of(video, thumbnails if isinstance(thumbnails, dict) else {}, damaged) for video, thumbnails in found
    ]


def any_picture_due(session: Session, channel_id: str, now: datetime) -> bool:
    """Whether any thumbnail of the channel is due."""
    return bool(pictures_due(session, channel_id, after="", now=now, read_before=now, limit=1))


def keep_files(database: Database, outcomes: Sequence[PictureOutcome]) -> list[PictureOutcome]:
    """Write the fetched files of a batch to the store's folder or bucket; return the batch for `record_pictures`.

    Does nothing if thumbnails are kept in the database. Otherwise it waits for a disk or the network: use a thread.

    Raises:
        PicturesUnavailable: the folder or bucket can't be written now.
    """
    place_id = put_files(database, {one.sha256: one.data for one in outcomes if isinstance(one, FetchedPicture)})
    if place_id is None:
        return list(outcomes)
    return [replace(one, place_id=place_id) if isinstance(one, FetchedPicture) else one for one in outcomes]


# Module-level because every transaction of a sync that writes thumbnails executes them.
_LOCKED = (
    select(Video.id, Video.title, Video.picture_sha256, Video.details_at)
    .where(Video.id.in_(bindparam("ids", expanding=True)))
    .order_by(Video.id)
    .with_for_update(key_share=True)
)
_FORGET_FAILURES = (
    delete(PictureFailure)
    .where(PictureFailure.video_id.in_(bindparam("ids", expanding=True)))
    .execution_options(synchronize_session=False)
)


def record_pictures(
    session: Session, outcomes: Sequence[PictureOutcome], *, now: datetime, started_at: datetime
) -> PicturesResult:
    """Write a batch of results of `keep_files`: thumbnails, the videos that show them, version history, and failures.

    A version without a thumbnail gets it; a changed thumbnail creates a new version. If the title was read too long
    before (see `TOGETHER`), it may have changed, too: the new version waits until the details are read again.
    """
    fetched = {o.video_id: o for o in outcomes if isinstance(o, FetchedPicture)}
    unchanged = {o.video_id for o in outcomes if isinstance(o, UnchangedPicture)}
    failed = [o for o in outcomes if isinstance(o, FailedPicture)]
    _insert_pictures(session, fetched.values(), now)
    ids = fetched.keys() | unchanged
    # Writing a failure locks its video through the foreign key, so failed videos are locked in the same order.
    touched = ids | {failure.video_id for failure in failed}
    videos = [video for video in session.execute(_LOCKED, {"ids": list(touched)}) if video.id in ids]
    versions = current_versions(session, ids)
    checked, shown, unread, history = [], [], [], VersionChanges(now)
    changed = same = 0
    for video in videos:
        version, picture = versions.get(video.id), fetched.get(video.id)
        digest = video.picture_sha256 if picture is None else picture.sha256
        is_same = digest == video.picture_sha256
        same += is_same
        # An unchanged thumbnail was also shown with the current title, no matter when the title was read.
        together = is_same or _read_lately(video.details_at, now)
        if version is None:
            history.add(None, video.id, video.title, digest)
        elif digest is None or digest == version.picture_sha256:
            history.seen(version)
        elif together:
            history.show(version, video.id, digest)
            changed += not is_same and video.picture_sha256 is not None and version.first_seen_at < started_at
        else:
            unread.append({"id": video.id, "details_at": None})
            if video.picture_sha256 is None:
                continue  # its thumbnail is fetched again with the details
        if picture is None:
            checked.append({"id": video.id, "picture_checked_at": now})
        else:
            shown.append(_shown(picture, now))
    update_rows(session, Video, checked)
    update_rows(session, Video, shown)
    update_rows(session, Video, unread)
    history.write(session)
    if ids:
        session.execute(_FORGET_FAILURES, {"ids": list(ids)})
    _record_failures(session, failed, now)
    return PicturesResult(len(videos) - same, same, len(failed), changed)


def _read_lately(details_at: datetime | None, now: datetime) -> bool:
    """Whether the title was read within `TOGETHER` of `now`. A time far in the future comes from a wrong clock."""
    return details_at is not None and abs(now - details_at) <= TOGETHER


def _shown(picture: FetchedPicture, now: datetime) -> dict[str, Any]:
    """The columns of a video that shows a fetched thumbnail."""
    return {
        "id": picture.video_id,
        "picture_sha256": picture.sha256,
        "picture_url": picture.url,
        "picture_etag": picture.etag,
        "picture_last_modified": picture.last_modified,
        "picture_checked_at": now,
    }


def _insert_pictures(session: Session, pictures: Iterable[FetchedPicture], now: datetime) -> None:
    rows: dict[str, dict[str, Any]] = {
        picture.sha256: {
            "sha256": picture.sha256,
            "bytes": picture.data if picture.place_id is None else b"",
            "mime": picture.mime,
            "width": picture.width,
            "height": picture.height,
            "byte_count": len(picture.data),
            "fetched_at": now,
            "place_id": picture.place_id,
        }
        for picture in pictures
    }
    for place_id in {row["place_id"] for row in rows.values()} - {None}:
        require_place(session, place_id)
    # A stored row that differs was damaged on the disk, because its key is the digest of the bytes.
    mended = ("bytes", "byte_count", "mime", "width", "height", "place_id")
    insert_rows(session, Picture, [rows[sha256] for sha256 in sorted(rows)], mend_known=mended)


def mark_lost(session: Session, digests: Collection[str], now: datetime) -> int:
    """Mark thumbnails whose files in a folder or bucket are damaged or lost, so that the next sync fetches them again.

    Args:
        session: a session in a write transaction.
        digests: damaged and lost thumbnails; thumbnails in the database are ignored (see `db check --repair`).
        now: the current time.

    Returns:
        The number of videos that show them.
    """
    lost = sorted(digests)
    rows = []
    for start in range(0, len(lost), 500):  # old SQLite versions limit the bound values in one statement to 999
        shown = select(Video.id, Video.picture_url).join(Picture, Picture.sha256 == Video.picture_sha256)
        which = Picture.sha256.in_(lost[start : start + 500]), Picture.place_id.is_not(None)
        for video_id, url in session.execute(shown.where(*which)):
            rows.append(
                {
                    "video_id": video_id,
                    "url": url,
                    "reason": "its stored file is damaged or lost",
                    "tries": 1,
                    "first_failed_at": now,
                    "last_failed_at": now,
                    "next_try_at": now,
                }
            )
    insert_rows(session, PictureFailure, rows, skip_known=True)
    return len(rows)


def _record_failures(session: Session, failed: Sequence[FailedPicture], now: datetime) -> None:
    for failure in sorted(failed, key=lambda failure: failure.video_id):
        known = session.scalar(
            select(PictureFailure).where(PictureFailure.video_id == failure.video_id).with_for_update(key_share=True)
        )
        tries = 1 if known is None else known.tries + 1
        latest = {
            "url": failure.url,
            "reason": failure.reason,
            "tries": tries,
            "last_failed_at": now,
            "next_try_at": now + pause_after(tries),
        }
        session.execute(
            insert(session, PictureFailure)
            .values(video_id=failure.video_id, first_failed_at=now, **latest)
            .on_conflict_do_update(index_elements=[PictureFailure.video_id], set_=latest)
        )
