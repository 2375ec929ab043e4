"""Check whether another process of this machine is still running."""

from __future__ import annotations

import os
from datetime import datetime

import psutil

__all__ = ["is_alive"]

CLOCKS_DIFFER_BY_S = 2.0
"""Tolerance between a process's start time and a row's time, in seconds: they come from different clocks."""


def is_alive(pid: int, heard_at: datetime) -> bool:
    """Whether the process with this id that was running at `heard_at` is still running; True if unknown.

    Process ids are reused: a process that started after `heard_at` is a different process. The current process counts
    as different, too, because it calls this before it starts a run.
    """
    if pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        ended = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        return not ended and process.create_time() <= heard_at.timestamp() + CLOCKS_DIFFER_BY_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
