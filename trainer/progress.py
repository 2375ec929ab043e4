"""How the trainer tells of its progress: a protocol that the caller may implement. Libraries never print."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

__all__ = ["Progress", "Silent"]


class Progress(Protocol):
    """Shows pieces of work, one at a time."""

    def phase(self, description: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Enter a piece of work of `total` items; call what is yielded with the number of items just done."""

    def warn(self, text: str) -> None:
        """Tell of something that the run could not do, or did otherwise than asked."""


class Silent:
    """Shows nothing."""

    def phase(self, description: str, total: int | None = None) -> AbstractContextManager[Callable[[int], None]]:
        """Do nothing."""
        return nullcontext(lambda _count: None)

    def warn(self, text: str) -> None:
        """Do nothing."""
