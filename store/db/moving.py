"""Move all thumbnails into the database, a folder or a bucket. The same call continues an interrupted move."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Row, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from store.db.database import Database, PicturesAt
from store.db.picture_files import has_pictures, places, put_files, read_files, require_place, use_place
from store.db.places import open_place
from store.errors import PicturesUnavailable
from store.tables import Picture, PicturePlace
from store.types import Phase, unshown

__all__ = ["Moved", "move_pictures"]

_ROWS = 500
_BYTES = 16 << 20
"""The maximum size of a batch, in rows and in bytes of thumbnails."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The result of a move.

    Attributes:
        moved: number of thumbnails.
        unsound: digests of damaged or missing thumbnails, which stay where they are.
        kept: URLs of places whose files could not be deleted, because the place can't be reached or belongs to another
            store.
    """

    moved: int
    unsound: tuple[str, ...]
    kept: tuple[str, ...]


def move_pictures(database: Database, url: str | None, phase: Phase = unshown, *, keep_files: bool = False) -> Moved:
    """Move all thumbnails to a place; new thumbnails go there as soon as the move starts.

    Each batch is written to the new place before its rows change, so that every thumbnail can be read at any time.
    Files in the old place are deleted once no row refers to them. Files that the new place already has are not written
    again if they come from another place, so that a folder that was moved by other means can be put into use. A move
    that begins during another one ends that one.

    Args:
        database: an open store.
        url: see `place_url`; None for the database.
        phase: shows the progress.
        keep_files: leave the files in the old place, because another copy of the store uses them.

    Raises:
        PicturesUnavailable: a place can't be used, or another move has begun; what was moved stays moved.
        StoreError: the database failed.
    """
    database = use_place(database, url)
    at = database.pictures
    target = None if at is None else at.id
    elsewhere = Picture.place_id.is_not(None) if target is None else Picture.place_id.is_distinct_from(target)
    with database.read() as session:
        # Counted by indexes: SQLite would read each thumbnail to find its place.
        query = select(func.count()).where(Picture.place_id == target if target else Picture.place_id.is_not(None))
        total = session.scalar(select(func.count()).select_from(Picture)) or 0
        outside = session.scalar(query) or 0
        total = outside if target is None else total - outside
    unsound: list[str] = []
    moved = 0
    with phase(f"Moving thumbnails to {url or 'the database'}", total) as count:
        for batch in _batches(database, elsewhere):
            files, damaged = _sound_files(database, batch, at)
            unsound += damaged
            moved += _move(database, target, files)
            count(len(batch))
    return Moved(moved, tuple(unsound), tuple(_clean(database, keep_files=keep_files)))


def _batches(database: Database, elsewhere: ColumnElement[bool]) -> Iterator[list[Row[str, int, int | None]]]:
    """Yield (digest, size, place) of the thumbnails to move, each once, in the order of digests."""
    after = ""
    query = select(Picture.sha256, Picture.byte_count, Picture.place_id).where(elsewhere).order_by(Picture.sha256)
    while True:
        with database.read() as session:
            rows = session.execute(query.where(Picture.sha256 > after).limit(_ROWS)).all()
        if not rows:
            return
        batch: list[Row[str, int, int | None]] = []
        size = 0
        for row in rows:
            batch.append(row)
            size += row.byte_count
            if size >= _BYTES:
                break
        yield batch
        after = batch[-1].sha256


def _sound_files(
    database: Database, batch: list[Row[str, int, int | None]], at: PicturesAt | None
) -> tuple[dict[str, bytes], list[str]]:
    """Write the files of a batch to the target. Return {digest: content}, and the digests that can't be read."""
    found: dict[str, bytes] = {}
    if at is not None:
        outside = [row.sha256 for row in batch if row.place_id is not None]
        found = _verified(open_place(at.url).get_many(outside, at.mark))
    to_move = [row.sha256 for row in batch if row.sha256 not in found]
    with database.read() as session:
        read = _verified(read_files(session, to_move))
    put_files(database, read)
    found |= read
    return found, [row.sha256 for row in batch if row.sha256 not in found]


def _verified(files: dict[str, bytes]) -> dict[str, bytes]:
    return {sha256: file for sha256, file in files.items() if hashlib.sha256(file).hexdigest() == sha256}


def _move(database: Database, target: int | None, files: dict[str, bytes]) -> int:
    """Change the rows to refer to the target, which already has the files; return the number of rows."""
    if not files:
        return 0
    statement = (
        update(Picture.__table__)  # type: ignore[arg-type]
        .where(Picture.sha256 == bindparam("digest"))
        .values(bytes=bindparam("content"), place_id=target)
    )
    rows = [{"digest": sha256, "content": b"" if target is not None else files[sha256]} for sha256 in sorted(files)]
    with database.write() as session:
        require_place(session, target)
        return session.connection().execute(statement, rows).rowcount


def _clean(database: Database, *, keep_files: bool) -> Iterator[str]:
    """Delete the files and rows of places that are no longer used; yield the URLs of those that can't be reached."""
    with database.write() as session:
        known = places(session)
        used = [at for at in known if _is_used(session, at)]
    for at in known:
        if at in used:
            continue
        reached = keep_files or _try_to_empty(database, at, used)
        with database.write() as session:
            if not _is_used(session, at):
                session.execute(delete(PicturePlace).where(PicturePlace.id == at.id))
        if not reached:
            yield at.url


def _try_to_empty(database: Database, at: PicturePlace, used: list[PicturePlace]) -> bool:
    """Empty a place, unless it is also one of the used places. Return whether it could be reached."""
    try:
        open_place(at.url).require(at.mark)
        # Two URLs can name one folder: by a link, a mount, or %20 and a space.
        if not any(open_place(at.url).has_files_of(open_place(other.url), other.mark) for other in used):
            _empty(database, at)
    except PicturesUnavailable:
        return False
    return True


def _empty(database: Database, at: PicturePlace) -> None:
    """Delete a place's files and mark. Each transaction keeps another move from using the place meanwhile."""
    place = open_place(at.url)
    for page in place.listed():
        with database.write() as session:
            if _is_used(session, at):
                return
            place.delete_names([one.name for one in page])
    with database.write() as session:
        if not _is_used(session, at):
            place.release()


def _is_used(session: Session, at: PicturePlace) -> bool:
    """Whether new thumbnails go to the place, or any is there."""
    is_current = session.scalar(select(PicturePlace.is_current).where(PicturePlace.id == at.id).with_for_update())
    return bool(is_current) or has_pictures(session, at)
