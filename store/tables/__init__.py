"""The tables, as typed SQLAlchemy models. docs/store.md is generated from their docstrings.

The same models serve SQLite and PostgreSQL. `migrations/` creates the tables, and a test compares the two. Enumerations
are text with a CHECK, so that SQL users see readable values. Columns that queries sort, join or filter by are indexed.
"""

from __future__ import annotations

from store.tables.base import (
    Availability,
    Base,
    Kind,
    SyncMode,
    SyncStatus,
    Tower,
)
from store.tables.cached import Feature, KnownModel, ThumbnailWords
from store.tables.collected import (
    Channel,
    Picture,
    PictureFailure,
    PicturePlace,
    QuotaDay,
    SyncRun,
    Video,
    VideoReading,
    VideoVersion,
)
from store.tables.trained import (
    Evaluation,
    Promotion,
    Rank,
    Snapshot,
    SnapshotExample,
    Sweep,
    TestLook,
    TrainingRun,
    TrainingStep,
)

__all__ = [
    "Availability",
    "Base",
    "Channel",
    "Evaluation",
    "Feature",
    "Kind",
    "KnownModel",
    "Picture",
    "PictureFailure",
    "PicturePlace",
    "Promotion",
    "QuotaDay",
    "Rank",
    "ThumbnailWords",
    "Snapshot",
    "SnapshotExample",
    "Sweep",
    "SyncMode",
    "SyncRun",
    "SyncStatus",
    "TestLook",
    "TrainingRun",
    "TrainingStep",
    "Tower",
    "Video",
    "VideoReading",
    "VideoVersion",
]
