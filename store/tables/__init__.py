"""The tables, as typed SQLAlchemy models. One docstring each: what a row is.

The same models serve SQLite and PostgreSQL; `migrations/` creates them and a test finds no drift. Enumerations are text
with a CHECK, so that plain SQL users read words. Everything that a query sorts, joins or looks up by has an index.
"""

from __future__ import annotations

from store.tables.base import (
    Availability,
    Base,
    Direction,
    Kind,
    RunStatus,
    ScoredModel,
    Split,
    SyncMode,
    SyncStatus,
    Tower,
)
from store.tables.cached import Feature, KnownModel, ThumbnailWords
from store.tables.collected import (
    Channel,
    Picture,
    PictureFailure,
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
    "Direction",
    "Evaluation",
    "Feature",
    "Kind",
    "KnownModel",
    "Picture",
    "PictureFailure",
    "Promotion",
    "QuotaDay",
    "Rank",
    "ThumbnailWords",
    "RunStatus",
    "ScoredModel",
    "Snapshot",
    "SnapshotExample",
    "Split",
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
