"""Fetches thumbnails from allowed hosts and verifies them by decoding."""

from collector.thumbnails.fetch import THUMBNAIL_CHOICES, Thumbnails

__all__ = [
    "THUMBNAIL_CHOICES",
    "Thumbnails",
]
