"""What can be made again: all rows may be deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, one_of

__all__ = ["Feature", "KnownModel", "ThumbnailWords"]


class Feature(Base):
    """What a frozen tower made of one picture or title: a cache. All rows may be deleted; runs make them again."""

    __tablename__ = "feature"
    __table_args__ = (CheckConstraint(one_of("tower", "vision", "text"), name="tower"),)

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 over the tower's frozen weights, its preprocessing and the precision it ran in."""
    tower: Mapped[str] = mapped_column(primary_key=True)
    """`vision` or `text`."""
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the picture's bytes, or of the title in UTF-8."""
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """The pooled vector before the projection: little-endian float32."""
    checksum: Mapped[int] = mapped_column(BigInteger)
    """CRC-32 of `vector`, so that a damaged row is noticed and made again."""


class KnownModel(Base):
    """What a model's files held when they were last loaded: a cache, so that a rerun need not load them."""

    __tablename__ = "known_model"

    files: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 over the paths, sizes and times of the model's files and the versions of the libraries that read them."""
    fingerprint: Mapped[str] = mapped_column(String(64))
    """Of the model that they hold."""
    facts: Mapped[dict[str, Any]]
    """Fingerprints of its towers, names and sizes of its parameters."""
    heads: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """Its two projections (safetensors); NULL for a model that only compares titles."""
    checksum: Mapped[int | None] = mapped_column(BigInteger)
    """CRC-32 of the others, so that a damaged row is noticed and made again."""


class ThumbnailWords(Base):
    """The words that a reader found on one picture: a cache. All rows may be deleted; runs read the pictures again."""

    __tablename__ = "thumbnail_words"

    picture_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the picture's bytes."""
    reader: Mapped[str] = mapped_column(primary_key=True)
    """The reader's name and version."""
    text: Mapped[str]
    """The words, top to bottom and left to right; empty where there are none."""
    read_at: Mapped[datetime]
    """When the reader read it."""
