"""Thumbnails: which are due, and what a batch of fetched, unchanged and failed ones changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from sqlalchemy import ColumnElement, Row, and_, bindparam, delete, func, or_, select
from sqlalchemy.orm import Session, defer

from store.db import insert, insert_rows, unsound, update_rows
from store.tables import Picture, PictureFailure, Video
from store.types import before
from store.youtube.shorts import is_held
from store.youtube.versions import VersionChanges, current_versions

__all__ = [
    "any_picture_due",
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
"""A picture that differs from the stored one belongs to the title that was read at most so long before; otherwise the
title is read again first. Thumbnails that failed are tried again within this time without spending a unit."""
FIRST_PAUSE = timedelta(hours=1)
PAUSE_GROWTH = 4
LONGEST_PAUSE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class PictureJob:
    """A thumbnail to fetch: what the API names, and what the store has of it."""

    video_id: str
    thumbnails: dict[str, Any]
    """`snippet.thumbnails` as the API gave it: {size: {"url", "width", "height"}}."""
    url: str | None
    etag: str | None
    last_modified: str | None

    @classmethod
    def of(cls, video: Video | Row[Any], thumbnails: dict[str, Any], unsound: Collection[str]) -> Self:
        """The job for a row with a video's `id` and `picture_...` columns.

        Without a stored picture there is nothing a conditional request could confirm, nor where it is one of `unsound`.
        """
        if video.picture_sha256 is None or video.picture_sha256 in unsound:
            return cls(video.id, thumbnails, None, None, None)
        return cls(video.id, thumbnails, video.picture_url, video.picture_etag, video.picture_last_modified)


@dataclass(frozen=True, slots=True)
class FetchedPicture:
    """A thumbnail that was fetched, and checked by decoding it."""

    video_id: str
    url: str
    data: bytes
    sha256: str
    mime: str
    width: int
    height: int
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class UnchangedPicture:
    """The server says that the stored thumbnail still is the one."""

    video_id: str


@dataclass(frozen=True, slots=True)
class FailedPicture:
    """A thumbnail that can't be fetched now, and why."""

    video_id: str
    url: str | None
    reason: str


PictureOutcome = FetchedPicture | UnchangedPicture | FailedPicture


@dataclass(frozen=True, slots=True)
class PicturesResult:
    """What a batch of thumbnails brought."""

    fetched: int
    unchanged: int
    failed: int
    changed: int
    """Videos whose thumbnail is another than before."""


def pause_after(tries: int) -> timedelta:
    """How long a thumbnail that has failed `tries` times is left alone: 1 h, 4 h, 16 h, ... at most 30 days."""
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
    """Thumbnails to fetch of videos whose details were read before `read_before`; in the order of ids, past `after`.

    Those never had, or not checked since their video came back; those that failed, once it is time for another try;
    with `recheck_before` also those not checked since. With `started_at`, when the sync began: only those that wait for
    the list of Shorts in it (`held`; see `store.youtube.shorts.is_held`), or only the others.
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
                PictureFailure.last_failed_at > now,  # by a clock that ran ahead
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
    """Whether any thumbnail is to be fetched now."""
    return bool(pictures_due(session, channel_id, after="", now=now, read_before=now, limit=1))


# Built once: they run in every transaction of a sync that writes pictures.
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
    """Write a batch of thumbnails: the bytes once each, the videos that show them, their history, and failures.

    A version that had no picture yet gets it in place; a picture that differs makes a new version. Where the title was
    read long before (see `TOGETHER`), another may be shown by now: the version waits until the details are read again.
    """
    fetched = {o.video_id: o for o in outcomes if isinstance(o, FetchedPicture)}
    unchanged = {o.video_id for o in outcomes if isinstance(o, UnchangedPicture)}
    failed = [o for o in outcomes if isinstance(o, FailedPicture)]
    _insert_pictures(session, fetched.values(), now)
    ids = fetched.keys() | unchanged
    # A failure's row refers to its video, which locks that: so the failed ones take their turn in the order, too.
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
        # What shows now as it did before the title was read was shown with it, however long ago that was.
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
                continue  # fetched again with the details
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
    """Whether the title is of about the time of a picture; a title read at a time to come is by a wrong clock."""
    return details_at is not None and abs(now - details_at) <= TOGETHER


def _shown(picture: FetchedPicture, now: datetime) -> dict[str, Any]:
    """The columns of a video that shows a picture."""
    return {
        "id": picture.video_id,
        "picture_sha256": picture.sha256,
        "picture_url": picture.url,
        "picture_etag": picture.etag,
        "picture_last_modified": picture.last_modified,
        "picture_checked_at": now,
    }


def _insert_pictures(session: Session, pictures: Iterable[FetchedPicture], now: datetime) -> None:
    rows = {
        picture.sha256: {
            "sha256": picture.sha256,
            "bytes": picture.data,
            "mime": picture.mime,
            "width": picture.width,
            "height": picture.height,
            "byte_count": len(picture.data),
            "fetched_at": now,
        }
        for picture in pictures
    }
    # One that is there with other bytes than its digest says was damaged on the disk.
    mended = ("bytes", "byte_count", "mime", "width", "height")
    insert_rows(session, Picture, [rows[sha256] for sha256 in sorted(rows)], mend_known=mended)


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
