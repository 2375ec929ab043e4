"""The interface through which a sync reports its progress."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Receives progress events. Its methods run on the event loop and must not block."""

    def channel(self, title: str) -> None:
        """The sync of a channel starts."""

    def listed(self, entries: int, total: int | None) -> None:
        """`entries` more uploads were listed; `total` is the API's count of all uploads, if known."""

    def details(self, videos: int) -> None:
        """The details of `videos` more videos were read."""

    def pictures_wanted(self, pictures: int) -> None:
        """`pictures` more thumbnails were queued for fetching."""

    def pictures_done(self, pictures: int) -> None:
        """`pictures` more thumbnails were processed, successfully or not."""


class Silent:
    """Ignores all progress events."""

    def channel(self, title: str) -> None:
        """Do nothing."""

    def listed(self, entries: int, total: int | None) -> None:
        """Do nothing."""

    def details(self, videos: int) -> None:
        """Do nothing."""

    def pictures_wanted(self, pictures: int) -> None:
        """Do nothing."""

    def pictures_done(self, pictures: int) -> None:
        """Do nothing."""
