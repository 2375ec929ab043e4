"""How a sync tells what it is doing, to whoever shows it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Called from the event loop; should return at once."""

    def channel(self, title: str) -> None:
        """A channel's sync begins."""

    def listed(self, entries: int, total: int | None) -> None:
        """So many more entries of the uploads were listed, of `total` if the API says how many there are."""

    def details(self, videos: int) -> None:
        """The details of so many more videos were read."""

    def pictures_wanted(self, pictures: int) -> None:
        """So many more thumbnails are to be fetched."""

    def pictures_done(self, pictures: int) -> None:
        """So many more thumbnails were dealt with, one way or another."""


class Silent:
    """Shows nothing."""

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
