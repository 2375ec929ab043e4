"""Find stored thumbnails that are damaged or missing, and the data needed to fetch them again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import LargeBinary, cast, func, select, union
from sqlalchemy.orm import Session

from store.db.rows import batches
from store.tables import Channel, Picture, Video, VideoVersion

__all__ = ["DamagedPicture", "Showing", "damaged_pictures", "missing_pictures", "pictures_to_repair", "unsound"]


@dataclass(frozen=True, slots=True)
class Showing:
    """A video whose current thumbnail is damaged or missing."""

    video_id: str
    url: str | None
    """The URL from which the thumbnail was fetched."""
    thumbnails: dict[str, object]
    """`snippet.thumbnails` of the last API response."""
    size: str
    """The channel's preferred thumbnail size."""


@dataclass(frozen=True, slots=True)
class DamagedPicture:
    """A damaged or missing thumbnail, and the videos that show it (empty if only older versions refer to it)."""

    sha256: str
    problem: str
    shown_by: tuple[Showing, ...]


def damaged_pictures(session: Session, digests: Collection[str] | None = None) -> Iterator[tuple[str, str | None]]:
    """Yield (digest, problem or None) of every stored thumbnail, or only of the given digests.

    The database hashes the bytes, one thumbnail at a time. Digests that are not stored are skipped.
    """
    content = cast(Picture.bytes, LargeBinary)  # SQLite may hold damaged bytes as text
    query = select(
        Picture.sha256,
        func.sha256(content, type_=LargeBinary),
        func.length(content),
        Picture.byte_count,
    ).order_by(Picture.sha256)
    if digests is None:
        for sha256, found, length, byte_count in session.execute(query.execution_options(yield_per=64)):
            yield sha256, _problem(sha256, found, length, byte_count)
        return
    wanted = sorted(set(digests))
    for batch in batches(wanted):
        for sha256, found, length, byte_count in session.execute(query.where(Picture.sha256.in_(batch))):
            yield sha256, _problem(sha256, found, length, byte_count)


def _problem(sha256: str, found: bytes, length: int, byte_count: int) -> str | None:
    if bytes(found).hex() != sha256:
        return f"the bytes of thumbnail {sha256} do not match its digest"
    if length != byte_count:
        return f"thumbnail {sha256} has {length} bytes instead of {byte_count}"
    return None


def unsound(session: Session, digests: Collection[str]) -> set[str]:
    """The given digests whose thumbnail is damaged or missing."""
    sound = {sha256 for sha256, problem in damaged_pictures(session, digests) if problem is None}
    return set(digests) - sound


def missing_pictures(session: Session) -> list[str]:
    """Digests that a video or version refers to without a stored thumbnail. Only possible on SQLite."""
    referred = union(*(select(model.picture_sha256.label("sha256")) for model in (Video, VideoVersion))).subquery()
    query = (
        select(referred.c.sha256)
        .outerjoin(Picture, Picture.sha256 == referred.c.sha256)
        .where(referred.c.sha256.is_not(None), Picture.sha256.is_(None))
    )
    return sorted(session.scalars(query))


def pictures_to_repair(session: Session) -> list[DamagedPicture]:
    """All damaged and missing thumbnails, ordered by digest."""
    problems = {sha256: problem for sha256, problem in damaged_pictures(session) if problem is not None}
    problems |= {sha256: f"thumbnail {sha256} is not in the store" for sha256 in missing_pictures(session)}
    return [DamagedPicture(sha256, problems[sha256], _shown_by(session, sha256)) for sha256 in sorted(problems)]


def _shown_by(session: Session, sha256: str) -> tuple[Showing, ...]:
    query = (
        select(Video.id, Video.picture_url, Video.api_item[("snippet", "thumbnails")], Channel.thumbnail_size)
        .join(Channel, Channel.id == Video.channel_id)
        .where(Video.picture_sha256 == sha256)
        .order_by(Video.availability != "available", Video.id)
    )
    return tuple(
        Showing(video_id, url, thumbnails if isinstance(thumbnails, dict) else {}, size)
        for video_id, url, thumbnails, size in session.execute(query)
    )
