"""Fetch thumbnails from allowed hosts, and check that the bytes are a picture."""

from collector.thumbnails.check import check_picture
from collector.thumbnails.fetch import THUMBNAIL_CHOICES, Thumbnails

__all__ = [
    "THUMBNAIL_CHOICES",
    "Thumbnails",
    "check_picture",
]
