"""Check whether another process of this machine is still running."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import psutil

__all__ = ["is_alive", "start_of", "this_process"]

PROC = Path("/proc")
CLOCKS_DIFFER_BY_S = 2.0
"""Tolerance between a process's start time and a row's time, in seconds: they come from different clocks."""


def start_of(pid: int) -> int | None:
    """When a process started, in clock ticks since the machine was booted (proc_pid_stat(5)); None if unknown."""
    try:
        # The second field is the program's name in parentheses, which may contain spaces and parentheses.
        return int((PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return None


def this_process() -> tuple[int, int | None]:
    """Return the id and the start of the current process, as rows record them."""
    return os.getpid(), start_of(os.getpid())


def is_alive(pid: int, heard_at: datetime, start: int | None = None) -> bool:
    """Whether the process with this id that was running at `heard_at` is still running; True if unknown.

    Process ids are reused: a process that started after `heard_at` is a different process. Where `start` is known, it
    decides instead: a process's start time moves with the machine's clock. The current process counts as different,
    too, because it calls this before it starts a run.

    Args:
        pid: the process id.
        heard_at: a time at which the process was running.
        start: `start_of` the process, if it was recorded.
    """
    if pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        ended = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        if start is not None and (now := start_of(pid)) is not None:
            return not ended and now == start
        return not ended and process.create_time() <= heard_at.timestamp() + CLOCKS_DIFFER_BY_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
