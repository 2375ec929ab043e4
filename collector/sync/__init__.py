"""Syncs channels: lists uploads, reads video details, fetches thumbnails, writes to the store, and reports."""

from collector.sync.api import add_channels, sync_channels
from collector.sync.opening import DEFAULT_MIN_DURATION_S, known_channel
from collector.sync.options import SyncOptions
from collector.sync.repair import Repair, repair_pictures
from collector.sync.report import SyncReport

__all__ = [
    "DEFAULT_MIN_DURATION_S",
    "Repair",
    "SyncOptions",
    "SyncReport",
    "add_channels",
    "known_channel",
    "repair_pictures",
    "sync_channels",
]
