"""Ctrl-C and SIGTERM: an exception where the program is, and a mark for the next step should something swallow it."""

from __future__ import annotations

import signal
from types import FrameType

__all__ = ["STOPPED_EARLY", "install", "raise_if_told"]

STOPPED_EARLY = 3
"""The exit code of a command that a signal or a spent quota ended: the next one goes on."""

_told: list[int] = []


def install() -> None:
    """End a command at either signal as Ctrl-C does, with everything so far kept: a service manager sends SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def raise_if_told() -> None:
    """Raise again what may have been lost: Python ignores an exception that a signal raises inside a destructor.

    Raises:
        KeyboardInterrupt: there was a signal.
    """
    if _told:
        raise KeyboardInterrupt


def _stop(number: int, _frame: FrameType | None) -> None:
    _told.append(number)
    raise KeyboardInterrupt
