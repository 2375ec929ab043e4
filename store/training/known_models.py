"""A cache of facts about models whose files were loaded before. A damaged row counts as missing."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from store.db import insert
from store.tables import KnownModel

__all__ = ["ModelFacts", "read_known_model", "write_known_model"]


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model, without its towers.

    Args:
        fingerprint: SHA-256 (hex) of the whole model.
        facts: plain JSON values.
        heads: its projections as a safetensors file, or None for a model that only embeds titles.
    """

    fingerprint: str
    facts: dict[str, Any]
    heads: bytes | None


def read_known_model(session: Session, files: str) -> ModelFacts | None:
    """Return the facts about the model whose files have this digest, or None."""
    query = select(KnownModel.fingerprint, KnownModel.facts, KnownModel.heads, KnownModel.checksum).where(
        KnownModel.files == files
    )
    try:
        row = session.execute(query).one_or_none()
    except ValueError:
        # The facts are not valid JSON: SQLite stores any text.
        return None
    if row is None:
        return None
    found = ModelFacts(row.fingerprint, row.facts, row.heads)
    return found if _checksum(found) == row.checksum else None


def write_known_model(session: Session, files: str, found: ModelFacts) -> None:
    """Store the facts about a model's files; an existing row is replaced."""
    values = {
        "fingerprint": found.fingerprint,
        "facts": found.facts,
        "heads": found.heads,
        "checksum": _checksum(found),
    }
    statement = insert(session, KnownModel).values(files=files, **values)
    session.execute(statement.on_conflict_do_update(index_elements=[KnownModel.files], set_=values))


def _checksum(found: ModelFacts) -> int:
    known = json.dumps([found.fingerprint, found.facts], sort_keys=True)
    return zlib.crc32(found.heads or b"", zlib.crc32(known.encode()))
