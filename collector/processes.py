"""Which process this is, and whether another one still lives."""

from __future__ import annotations

import os

__all__ = ["is_alive"]


def is_alive(pid: int) -> bool:
    """Whether a process of this machine with that number exists. When that can't be told: yes."""
    if os.name == "nt":  # there, os.kill(pid, 0) would press Ctrl-C in it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
