"""Caches: all rows may be deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from store.tables.base import Base, one_of

__all__ = ["Feature", "KnownModel", "ThumbnailWords"]


class Feature(Base):
    """A frozen tower's vector of one thumbnail or title: a cache. Rows may be deleted; runs compute them again."""

    __tablename__ = "feature"
    __table_args__ = (CheckConstraint(one_of("tower", "vision", "text"), name="tower"),)

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 over the tower's frozen weights, its preprocessing and its precision."""
    tower: Mapped[str] = mapped_column(primary_key=True)
    """`vision` or `text`."""
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the thumbnail's bytes, or of the title in UTF-8."""
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    """The pooled vector before the projection: little-endian float32."""
    checksum: Mapped[int] = mapped_column(BigInteger)
    """CRC-32 of `vector`. A row with a wrong checksum is computed again."""


class KnownModel(Base):
    """Facts about a model's files from when they were last loaded: a cache that avoids loading them again."""

    __tablename__ = "known_model"

    files: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 over the paths, sizes and times of the model's files and the versions of the loading libraries."""
    fingerprint: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the model."""
    facts: Mapped[dict[str, Any]]
    """Fingerprints of the model's towers, names and sizes of its parameters."""
    projections: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    """The model's two projections (safetensors); NULL for a model that only embeds titles."""
    checksum: Mapped[int | None] = mapped_column(BigInteger)
    """CRC-32 of `fingerprint`, `facts` and `projections`. A row with a wrong checksum is ignored."""


class ThumbnailWords(Base):
    """The text that OCR found on one thumbnail: a cache. Rows may be deleted; runs read the thumbnails again."""

    __tablename__ = "thumbnail_words"

    picture_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the thumbnail's bytes."""
    reader: Mapped[str] = mapped_column(primary_key=True)
    """Name and version of the OCR reader."""
    text: Mapped[str]
    """The text, top to bottom and left to right; empty if there is no text."""
    read_at: Mapped[datetime]
    """When the thumbnail was read."""
