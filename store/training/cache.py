"""The caches of vectors, and of facts about models whose files were loaded before. A damaged row counts as missing."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.db import batches, insert
from store.tables import Feature, KnownModel, Tower

__all__ = ["ModelFacts", "cached_digests", "read_features", "read_known_model", "write_features", "write_known_model"]


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


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model, without its towers.

    Args:
        fingerprint: SHA-256 (hex) of the whole model.
        facts: plain JSON values.
        projections: its projections as a safetensors file, or None for a model that only embeds titles.
    """

    fingerprint: str
    facts: dict[str, Any]
    projections: bytes | None


def read_known_model(session: Session, files: str) -> ModelFacts | None:
    """Return the facts about the model whose files have this digest, or None."""
    query = select(KnownModel.fingerprint, KnownModel.facts, KnownModel.projections, KnownModel.checksum).where(
        KnownModel.files == files
    )
    try:
        row = session.execute(query).one_or_none()
    except ValueError:
        # The facts are not valid JSON: SQLite stores any text.
        return None
    if row is None:
        return None
    found = ModelFacts(row.fingerprint, row.facts, row.projections)
    return found if _checksum(found) == row.checksum else None


def write_known_model(session: Session, files: str, found: ModelFacts) -> None:
    """Store the facts about a model's files; an existing row is replaced."""
    values = {
        "fingerprint": found.fingerprint,
        "facts": found.facts,
        "projections": found.projections,
        "checksum": _checksum(found),
    }
    statement = insert(session, KnownModel).values(files=files, **values)
    session.execute(statement.on_conflict_do_update(index_elements=[KnownModel.files], set_=values))


def _checksum(found: ModelFacts) -> int:
    known = json.dumps([found.fingerprint, found.facts], sort_keys=True)
    return zlib.crc32(found.projections or b"", zlib.crc32(known.encode()))
