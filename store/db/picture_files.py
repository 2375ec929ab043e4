"""Reads and writes thumbnail files, which are in their rows in the database, or in a folder or bucket.

A file is written before its row, and deleted after its row, so that no row lacks its file after a crash. A crash can
leave a file without a row, which `orphans` finds.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import LargeBinary, cast, delete, exists, inspect, select, text, update
from sqlalchemy.orm import Session

from store.db.database import Database, PicturesAt
from store.db.places import Listed, open_place, place_url
from store.db.rows import batches
from store.errors import BadPicturesUrl, PicturesUnavailable
from store.tables import Picture, PicturePlace

__all__ = [
    "Outside",
    "ReadFile",
    "delete_files",
    "delete_orphans",
    "expect_pictures",
    "has_pictures",
    "listed_sizes",
    "orphans",
    "outside_files",
    "places",
    "put_files",
    "read_files",
    "require_place",
    "use_place",
]

_BATCH = 500
_BYTES = 16 << 20
"""The most bytes of thumbnails that are read from a place at once."""
_NEW = timedelta(hours=1)
"""A file without a row that is younger than this may belong to a sync that is about to write the row."""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A thumbnail that is outside the database: its digest, the place's URL, and the content, or None if it is lost."""

    sha256: str
    url: str
    content: bytes | None


def read_files(session: Session, digests: Iterable[str]) -> dict[str, bytes]:
    """Return {digest: content}, not verified. Missing thumbnails are left out.

    All files are held in memory, so read large sets in batches.

    Raises:
        PicturesUnavailable: the folder or bucket can't be read now.
    """
    found: dict[str, bytes] = {}
    outside: dict[int, list[str]] = {}
    for batch in batches(sorted(set(digests))):
        # Cast, because SQLite may hold damaged bytes as text.
        query = select(Picture.sha256, cast(Picture.bytes, LargeBinary), Picture.place_id)
        for sha256, content, place_id in session.execute(query.where(Picture.sha256.in_(batch))):
            if place_id is None:
                found[sha256] = content
            else:
                outside.setdefault(place_id, []).append(sha256)
    for place_id, digests_there in outside.items():
        at = session.get_one(PicturePlace, place_id)
        found.update(open_place(at.url).get_many(digests_there, at.mark))
    return found


class Outside:
    """Reads thumbnails from their places in batches, so that memory stays flat."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: dict[int, list[str]] = {}
        self._size = 0
        self._number = 0

    def take(self, sha256: str, byte_count: int, place_id: int) -> Iterator[ReadFile]:
        """Add a thumbnail; if the batch is full, read and yield it."""
        self._waiting.setdefault(place_id, []).append(sha256)
        self._size += byte_count
        self._number += 1
        if self._size >= _BYTES or self._number >= _BATCH:
            yield from self.rest()

    def rest(self) -> Iterator[ReadFile]:
        """Read and yield the last batch."""
        waiting, self._waiting, self._size, self._number = self._waiting, {}, 0, 0
        for place_id, digests in waiting.items():
            at = self._session.get_one(PicturePlace, place_id)
            found = open_place(at.url).get_many(digests, at.mark)
            for sha256 in digests:
                yield ReadFile(sha256, at.url, found.get(sha256))


def listed_sizes(session: Session, digests: Collection[str], *, more_than: int) -> dict[str, bool] | None:
    """Return {digest: whether its file exists with the right size} for the given thumbnails outside the database.

    Returns None if at most `more_than` of the given thumbnails are outside.
    """
    if len(digests) <= more_than:
        return None
    requested = set(digests)
    query = select(Picture.sha256, Picture.byte_count).where(Picture.place_id.is_not(None))
    rows = session.execute(query.execution_options(yield_per=_BATCH))
    sizes = {sha256: byte_count for sha256, byte_count in rows if sha256 in requested}
    if len(sizes) <= more_than:
        return None
    whole: dict[str, bool] = dict.fromkeys(sizes, False)
    for at in places(session):
        place = open_place(at.url)
        place.require(at.mark)
        for page in place.listed():
            whole.update((one.sha256, True) for one in page if sizes.get(one.sha256) == one.size)
    return whole


def places(session: Session) -> list[PicturePlace]:
    """Return the places that hold thumbnails, oldest first; empty if all thumbnails are in the database."""
    return list(session.scalars(select(PicturePlace).order_by(PicturePlace.id)))


def outside_files(database: Database) -> str:
    """Return the URLs of the places that hold thumbnails, separated by commas; empty if all are in the database.

    The store may be of any revision.
    """
    with database.read() as session:
        if not inspect(session.connection()).has_table(PicturePlace.__tablename__):
            return ""
        return ", ".join(at.url for at in places(session))


def put_files(database: Database, files: Mapping[str, bytes]) -> int | None:
    """Write {digest: content} where new thumbnails go, before their rows; return the place's id for the rows.

    Returns None and does nothing if new thumbnails go into the database.

    Raises:
        PicturesUnavailable: the folder or bucket can't be written now.
    """
    if database.pictures is None:
        return None
    if files:
        place = open_place(database.pictures.url)
        place.require(database.pictures.mark)  # else files would be written below the mount point of a missing disk
        place.put_many(files)
    return database.pictures.id


def require_place(session: Session, place_id: int | None) -> None:
    """Check that new thumbnails still go to this place. Call it in the transaction that writes their rows.

    Args:
        session: a session in a write transaction.
        place_id: None for the database.

    Raises:
        PicturesUnavailable: since the store was opened, a move to another place has begun.
    """
    current = select(PicturePlace.id).where(PicturePlace.is_current)
    if session.scalar(current.with_for_update(read=True)) != place_id:
        raise PicturesUnavailable("the store's thumbnails were moved meanwhile; start the command again")


def delete_files(database: Database, files: Mapping[str, Collection[str]]) -> int:
    """Delete {url: digests} of thumbnails whose rows were deleted, unless a new row refers to them.

    Returns the number of deleted files.

    A sync that stores the same thumbnail at the same time may lose it; `db check` finds it, and it is fetched again.

    Raises:
        PicturesUnavailable: the folder or bucket can't be written now.
    """
    deleted = 0
    for url, digests in files.items():
        for batch in batches(sorted(digests)):
            with database.read() as session:
                known = set(session.scalars(select(Picture.sha256).where(Picture.sha256.in_(batch))))
            open_place(url).delete_many(set(batch) - known)
            deleted += len(set(batch) - known)
    return deleted


def has_pictures(session: Session, at: PicturePlace) -> bool:
    """Return whether the rows of any thumbnails refer to a place."""
    return session.scalar(select(Picture.sha256).where(Picture.place_id == at.id).limit(1)) is not None


def orphans(session: Session, at: PicturePlace) -> Iterator[list[Listed]]:
    """Yield, in pages, the files in a place that no row refers to. Crashes leave such files."""
    place = open_place(at.url)
    try:
        place.require(at.mark)
    except PicturesUnavailable:
        if at.is_current or has_pictures(session, at):
            raise
        return  # an interrupted move has emptied the place
    for page in place.listed():
        for batch in batches(page):
            digests = [one.sha256 for one in batch]
            query = select(Picture.sha256).where(Picture.sha256.in_(digests), Picture.place_id == at.id)
            known = set(session.scalars(query))
            yield [one for one in batch if one.sha256 not in known]


def delete_orphans(database: Database, now: datetime) -> int:
    """Delete the files that no row refers to, except those of the last hour; return their number.

    Raises:
        PicturesUnavailable: a folder or bucket can't be used now.
    """
    deleted = 0
    with database.read() as session:
        for at in places(session):
            for page in orphans(session, at):
                old = [one for one in page if now - one.written_at > _NEW]
                deleted += delete_files(database, {at.url: {one.sha256 for one in old if one.sha256}})
                partial = [one.name for one in old if not one.sha256]
                open_place(at.url).delete_names(partial)
                deleted += len(partial)
    return deleted


def expect_pictures(database: Database, given: str, *, read_only: bool = False) -> Database:
    """Check that the store's thumbnails are in the place that the user names, and return the store.

    The store records the place, so a command without the setting fails instead of not finding thumbnails. A store
    without thumbnails starts to use the named place.

    Args:
        database: an open store.
        given: the value of THUMBTUNE_PICTURES.
        read_only: do not start to use the place.

    Raises:
        BadPicturesUrl: the value is invalid, or the thumbnails are elsewhere.
        PicturesUnavailable: the place can't be used.
    """
    url, at = place_url(given), database.pictures
    if url == (None if at is None else at.url):
        return database
    if at is not None:
        setting = f"set THUMBTUNE_PICTURES={at.url}"
        if url is None:
            raise BadPicturesUrl(f"the store's thumbnails are in {at.url}; {setting}")
        raise BadPicturesUrl(
            f"the store's thumbnails are in {at.url}, not in {url}; {setting}, or move them: "
            f"thumbtune db move-pictures {url}"
        )
    assert url is not None
    with database.read() as session:
        is_new = session.scalar(select(Picture.sha256).limit(1)) is None
    if not is_new:
        raise BadPicturesUrl(
            f"the store's thumbnails are in the database, not in {url}; move them with 'thumbtune db move-pictures "
            f"{url}', or unset THUMBTUNE_PICTURES"
        )
    return database if read_only or database.unwritable else use_place(database, url)


def use_place(database: Database, url: str | None) -> Database:
    """Write new thumbnails to a place from now on, and mark the place as the store's; None: into the database.

    Returns:
        The same open store, which now writes there. Other processes still write to the previous place.

    Raises:
        BadPicturesUrl: a package is missing.
        PicturesUnavailable: the place can't be used, or belongs to another store.
    """
    if url is None:
        with database.write() as session:
            session.execute(update(PicturePlace).values(is_current=False))
        return replace(database, pictures=None)
    place = open_place(url)
    # Written before the place is marked, so that a process that is killed in between finds its mark again.
    with database.write() as session:
        if not database.is_sqlite:
            session.execute(text("LOCK TABLE picture_place IN SHARE ROW EXCLUSIVE MODE"))
        known = places(session)
        at = next((one for one in known if one.url == url), None)
        if at is None:
            mark = known[0].mark if known else uuid.uuid4().hex
            at = PicturePlace(url=url, mark=mark, is_current=False)
            session.add(at)
            session.flush()
        id_, mark = at.id, at.mark
    try:
        place.claim(mark)
    except BaseException:
        with database.write() as session:
            unused = ~exists().where(Picture.place_id == id_)
            session.execute(delete(PicturePlace).where(PicturePlace.id == id_, ~PicturePlace.is_current, unused))
        raise
    with database.write() as session:
        session.execute(update(PicturePlace).values(is_current=PicturePlace.id == id_))
        require_place(session, id_)  # an earlier move, which has just ended, may have deleted the row
    return replace(database, pictures=PicturesAt(id_, url, mark))
