"""Whether a process still runs that a run's row names: to be told on its own machine only."""

from __future__ import annotations

import os
import socket
from datetime import datetime

import psutil

from store.training import this_machine

__all__ = ["has_ended", "lives_here"]

# The clock that tells a process's age and the one that a row's time is from differ by up to a tick.
_CLOCKS_DIFFER_BY_S = 1.0


def lives_here(host: str, pid: int, heard_at: datetime) -> bool:
    """Whether the process that was at work on a run at `heard_at` still runs, on this machine.

    Of other machines nothing is known.
    """
    return _is_here(host) and _lives(pid, heard_at)


def has_ended(host: str, pid: int, heard_at: datetime) -> bool:
    """Whether the process that was at work on a run at `heard_at` is known to be gone.

    Of other machines nothing is known, also if they have this one's name; nor of this one before it was last started.
    """
    return _is_here(host) and not _lives(pid, heard_at)


def _is_here(host: str) -> bool:
    # Rows that were written before the boot was part of the name have the host name alone.
    return host in (this_machine(), socket.gethostname())


def _lives(pid: int, heard_at: datetime) -> bool:
    """Whether a process of this machine is the one that was at work on a run at `heard_at`.

    A number is used again after its process ended: a process younger than the sign of life is another one, and so is
    this one, which asks before it starts a run.
    """
    if pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        return not ended and process.create_time() <= heard_at.timestamp() + _CLOCKS_DIFFER_BY_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
