"""How the trainer reports progress: a protocol that the caller may implement. The trainer itself never prints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

__all__ = ["Progress", "Silent", "uncounted"]


class Progress(Protocol):
    """Displays phases of work, one at a time."""

    def phase(self, description: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Enter a phase of `total` items; call the yielded function with the number of items just completed."""

    def warn(self, text: str) -> None:
        """Report something that the run could not do, or did differently than requested."""


class Silent:
    """Displays nothing."""

    def phase(self, description: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Do nothing."""
        return nullcontext(uncounted)

    def warn(self, text: str) -> None:
        """Do nothing."""


def uncounted(_count: int) -> None:
    """Do nothing with a number of completed items: for work that reports no progress."""
