"""Stored thumbnails whose bytes are not what they were, and what it takes to fetch them again."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from sqlalchemy import LargeBinary, cast, func, select, union
from sqlalchemy.orm import Session

from store.tables import Channel, Picture, Video, VideoVersion

__all__ = ["DamagedPicture", "Showing", "damaged_pictures", "missing_pictures", "pictures_to_repair", "unsound"]

_BATCH = 500


@dataclass(frozen=True, slots=True)
class Showing:
    """A video that shows a damaged picture, as far as is known."""

    video_id: str
    url: str | None
    """Where the picture came from."""
    thumbnails: dict[str, object]
    """`snippet.thumbnails` as the API gave it last."""
    size: str
    """The size that its channel prefers."""


@dataclass(frozen=True, slots=True)
class DamagedPicture:
    """A picture that can't be read, and the videos that may still show it; none: only history has it."""

    sha256: str
    problem: str
    shown_by: tuple[Showing, ...]


def damaged_pictures(session: Session, digests: Collection[str] | None = None) -> Iterator[tuple[str, str | None]]:
    """(digest, what is wrong or None) of stored pictures: of all of them, or of these.

    The bytes are hashed by the database, one picture at a time. Pictures that are not stored are left out.
    """
    content = cast(Picture.bytes, LargeBinary)  # what was damaged may be text to SQLite
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
    for start in range(0, len(wanted), _BATCH):
        for sha256, found, length, byte_count in session.execute(
            query.where(Picture.sha256.in_(wanted[start : start + _BATCH]))
        ):
            yield sha256, _problem(sha256, found, length, byte_count)


def _problem(sha256: str, found: bytes, length: int, byte_count: int) -> str | None:
    if bytes(found).hex() != sha256:
        return f"picture {sha256} has other bytes than its digest says"
    if length != byte_count:
        return f"picture {sha256} has {length} bytes, and its row says {byte_count}"
    return None


def unsound(session: Session, digests: Collection[str]) -> set[str]:
    """Those of these pictures that can't be relied on: damaged, or not stored at all."""
    sound = {sha256 for sha256, problem in damaged_pictures(session, digests) if problem is None}
    return set(digests) - sound


def missing_pictures(session: Session) -> list[str]:
    """Digests that a video or a version refers to, and that no picture has: possible on SQLite only."""
    referred = union(*(select(model.picture_sha256.label("sha256")) for model in (Video, VideoVersion))).subquery()
    query = (
        select(referred.c.sha256)
        .outerjoin(Picture, Picture.sha256 == referred.c.sha256)
        .where(referred.c.sha256.is_not(None), Picture.sha256.is_(None))
    )
    return sorted(session.scalars(query))


def pictures_to_repair(session: Session) -> list[DamagedPicture]:
    """Every picture that is damaged or missing, by digest."""
    problems = {sha256: problem for sha256, problem in damaged_pictures(session) if problem is not None}
    problems |= {sha256: f"picture {sha256} is not in the store" for sha256 in missing_pictures(session)}
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
