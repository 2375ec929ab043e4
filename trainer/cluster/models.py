"""The cached features that a run with given settings needs."""

from __future__ import annotations

from collections.abc import Sequence

from store.db import Database
from store.training import current_pairs
from trainer.models import Features, open_base, open_reader
from trainer.settings import TrainSettings

__all__ = ["features_of", "inputs_of"]


def features_of(database: Database, settings: TrainSettings, device: str) -> list[Features]:
    """Return the features of the base model, and those of the reader if it is added to the base model.

    Args:
        database: the store.
        settings: resolved settings: the model is a folder's absolute path, a hub name or `reader`.
        device: `cpu`, `cuda` or `mps`.

    Raises:
        ReaderMissing: the reader's packages are not installed.
    """
    base = open_base(database, settings, device)
    found = [Features(database, base, settings.precision, settings.fit, settings.bars)]
    if settings.with_reader:
        reader = open_reader(database, settings, device)
        found.append(Features(database, reader, settings.precision, settings.fit, settings.bars))
    return found


def inputs_of(database: Database, channels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the distinct (thumbnail digests, titles) of the current pairs, sorted as training sorts them.

    Args:
        database: the store.
        channels: ids of the channels; empty for all.
    """
    with database.read() as session:
        pairs = [pair for pair in current_pairs(session) if not channels or pair.channel_id in channels]
    return sorted({pair.picture_sha256 for pair in pairs}), sorted({pair.title for pair in pairs})
