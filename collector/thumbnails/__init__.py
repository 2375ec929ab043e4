"""Fetches thumbnails from allowed hosts and verifies them by decoding."""

from collector.thumbnails.check import CheckedPicture, LargeDecoder, check_picture
from collector.thumbnails.fetch import THUMBNAIL_CHOICES, Thumbnails

__all__ = [
    "THUMBNAIL_CHOICES",
    "CheckedPicture",
    "LargeDecoder",
    "Thumbnails",
    "check_picture",
]
