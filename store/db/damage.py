"""Find stored thumbnails that are damaged or missing, and the data needed to fetch them again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import LargeBinary, Select, cast, func, select, union
from sqlalchemy.orm import Session

from store.db.picture_files import Outside, ReadFile, listed_sizes
from store.db.rows import batches
from store.tables import Channel, Picture, Video, VideoVersion
from store.wording import counted

__all__ = ["DamagedPicture", "Showing", "damaged_pictures", "missing_pictures", "pictures_to_repair", "unsound"]

_READ_WHOLE = 1000


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

    The database hashes its own thumbnails, one at a time. Thumbnails outside the database are read and hashed here.
    Digests that are not stored are skipped.
    """
    content = cast(Picture.bytes, LargeBinary)  # SQLite may hold damaged bytes as text
    query = select(
        Picture.sha256,
        func.sha256(content, type_=LargeBinary),
        func.length(content),
        Picture.byte_count,
        Picture.place_id,
    ).order_by(Picture.sha256)
    outside = Outside(session)
    for digest, found, length, byte_count, place_id in _rows(session, query, digests):
        if place_id is None:
            yield digest, _problem(digest, found, length, byte_count)
        else:
            yield from map(_problem_outside, outside.take(digest, byte_count, place_id))
    yield from map(_problem_outside, outside.rest())


def _rows(session: Session, query: Select[Any], digests: Collection[str] | None) -> Iterator[Any]:
    if digests is None:
        yield from session.execute(query.execution_options(yield_per=64))
        return
    requested = sorted(set(digests))
    for batch in batches(requested):
        yield from session.execute(query.where(Picture.sha256.in_(batch)))


def _problem_outside(read: ReadFile) -> tuple[str, str | None]:
    if read.content is None:
        return read.sha256, f"thumbnail {read.sha256} is not in {read.url}"
    if hashlib.sha256(read.content).hexdigest() != read.sha256:
        return read.sha256, f"the bytes of thumbnail {read.sha256} in {read.url} do not match its digest"
    return read.sha256, None


def _problem(sha256: str, found: bytes, length: int, byte_count: int) -> str | None:
    if bytes(found).hex() != sha256:
        return f"the bytes of thumbnail {sha256} do not match its digest"
    if length != byte_count:
        return f"thumbnail {sha256} has {counted(length, 'byte')} instead of {byte_count}"
    return None


def unsound(session: Session, digests: Collection[str]) -> set[str]:
    """The given digests whose thumbnail is damaged or missing.

    If more than `_READ_WHOLE` of the thumbnails are outside the database, their contents are not read. Only their sizes
    are compared, by listing the place, because reading a million thumbnails would take hours.
    """
    if (sizes := listed_sizes(session, digests, more_than=_READ_WHOLE)) is None:
        sound = {sha256 for sha256, problem in damaged_pictures(session, digests) if problem is None}
    else:
        inside = [sha256 for sha256 in digests if sha256 not in sizes]
        sound = {sha256 for sha256, problem in damaged_pictures(session, inside) if problem is None}
        sound.update(sha256 for sha256, is_whole in sizes.items() if is_whole)
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
