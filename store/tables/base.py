"""The declarative base, and the values of enumeration columns."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Double, MetaData, Text
from sqlalchemy.orm import DeclarativeBase

from store.types import UtcDateTime, json_type

__all__ = [
    "Availability",
    "Base",
    "Direction",
    "Kind",
    "RunStatus",
    "ScoredModel",
    "Split",
    "SyncMode",
    "SyncStatus",
    "Tower",
    "one_of",
]

Kind = Literal["video", "short", "upcoming", "live", "unknown"]
Availability = Literal["available", "private", "gone"]
Split = Literal["train", "valid", "test"]
SyncMode = Literal["incremental", "full", "refresh"]
SyncStatus = Literal["running", "complete", "unchanged", "quota", "partial", "failed", "interrupted"]
RunStatus = Literal["running", "done", "failed", "interrupted"]
ScoredModel = Literal["base", "tuned", "champion"]
Direction = Literal["thumbnail_to_title", "title_to_thumbnail"]
Tower = Literal["vision", "text"]


def one_of(column: str, *values: str) -> str:
    """A CHECK condition: the column holds one of the values."""
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


class Base(DeclarativeBase):
    """Declarative base. Names every constraint, so that migrations can refer to constraints on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own declaration form)
        datetime: UtcDateTime(),
        dict[str, Any]: json_type(),
        list[str]: json_type(),
        str: Text(),
        float: Double(),  # SQLAlchemy 2.0 defaults to `Float`
    }
