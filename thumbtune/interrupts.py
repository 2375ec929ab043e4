"""Ctrl-C and SIGTERM raise an exception, and set a flag in case a library swallows it."""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["STOPPED_EARLY", "install", "raise_if_told"]

STOPPED_EARLY = 3
"""The exit code of a command that a signal or a spent quota ended; the next run continues its work."""

_told: list[int] = []


def install() -> None:
    """Handle both signals like Ctrl-C, because service managers send SIGTERM. The work so far is kept."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def raise_if_told() -> None:
    """Raise the exception again if it was lost: Python ignores what a signal raises inside a destructor.

    Raises:
        KeyboardInterrupt: a signal was received.
    """
    if _told:
        raise KeyboardInterrupt


def _stop(number: int, _frame: FrameType | None) -> None:
    _told.append(number)
    raise KeyboardInterrupt
