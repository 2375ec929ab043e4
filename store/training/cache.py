"""The feature cache: vectors keyed by tower and input. A damaged row counts as missing."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.db import batches, insert
from store.tables import Feature, Tower

__all__ = ["cached_digests", "read_features", "write_features"]


def read_features(
    session: Session, fingerprint: str, tower: Tower, digests: Sequence[str], width: int
) -> dict[str, bytes]:
    """Return the cached vectors that are intact: {digest: little-endian float32}.

    Args:
        session: any session.
        fingerprint: SHA-256 (hex) over the tower, its preprocessing and its precision.
        tower: `vision` or `text`.
        digests: hex digests of the thumbnails or titles.
        width: values per vector; rows of another length or with a wrong checksum are left out.
    """
    found: dict[str, bytes] = {}
    for batch in batches(digests):
        query = select(Feature.digest, Feature.vector, Feature.checksum).where(
            Feature.fingerprint == fingerprint,
            Feature.tower == tower,
            Feature.digest.in_(batch),
        )
        found |= {
            digest: vector
            for digest, vector, checksum in session.execute(query)
            if len(vector) == 4 * width and zlib.crc32(vector) == checksum
        }
    return found


def cached_digests(session: Session, fingerprint: str, tower: Tower, digests: Sequence[str], width: int) -> set[str]:
    """Return the digests that have a cached vector of this width. Checksums are not compared.

    The arguments are those of `read_features`.
    """
    found: set[str] = set()
    for batch in batches(digests):
        query = select(Feature.digest).where(
            Feature.fingerprint == fingerprint,
            Feature.tower == tower,
            Feature.digest.in_(batch),
            func.length(Feature.vector) == 4 * width,
        )
        found.update(session.scalars(query))
    return found


def write_features(session: Session, fingerprint: str, tower: Tower, vectors: Mapping[str, bytes]) -> None:
    """Cache vectors: {digest: little-endian float32}. Existing rows, damaged or not, are replaced."""
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
