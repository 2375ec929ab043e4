"""The feature cache: vectors by what made them and what of. A row that is damaged counts as missing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.tables import Feature, Tower
from store.upsert import insert

__all__ = ["read_features", "write_features"]

# More bound values than this in one statement is more than an old SQLite takes.
_BATCH = 500


def read_features(
    session: Session, fingerprint: str, tower: Tower, digests: Sequence[str], width: int
) -> dict[str, bytes]:
    """The vectors that are there, whole: {digest: little-endian float32}.

    Args:
        session: any session.
        fingerprint: of the tower, its preprocessing and its precision.
        tower: `vision` or `text`.
        digests: of the pictures or titles wanted, in hex.
        width: values in a vector; a row of another length is left out, as is one whose checksum is wrong.
    """
    found: dict[str, bytes] = {}
    for start in range(0, len(digests), _BATCH):
        query = select(Feature.digest, Feature.vector, Feature.checksum).where(
            Feature.fingerprint == fingerprint,
            Feature.tower == tower,
            Feature.digest.in_(digests[start : start + _BATCH]),
        )
        found |= {
            digest: vector
            for digest, vector, checksum in session.execute(query)
            if len(vector) == 4 * width and zlib.crc32(vector) == checksum
        }
    return found


def write_features(session: Session, fingerprint: str, tower: Tower, vectors: Mapping[str, bytes]) -> None:
    """Keep vectors: {digest: little-endian float32}. A row that is there, damaged or not, is replaced."""
    rows = [
        {
            "fingerprint": fingerprint,
            "tower": tower,
            "digest": digest,
            "vector": vector,
            "checksum": zlib.crc32(vector),
        }
        for digest, vector in sorted(vectors.items())
    ]
    if not rows:
        return
    statement = insert(session, Feature)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[Feature.fingerprint, Feature.tower, Feature.digest],
            set_={"vector": statement.excluded.vector, "checksum": statement.excluded.checksum},
        ),
        rows,
    )
