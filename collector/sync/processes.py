"""Whether another process still lives."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

__all__ = ["is_alive"]

CLOCKS_DIFFER_BY_S = 2.0
PROC = Path("/proc")


def is_alive(pid: int, heard_at: datetime) -> bool:
    """Whether the process of this machine still runs that was at work at `heard_at`. When that can't be told: yes.

    A number is used again after its process ended: a process that began later is another one, and so is this one,
    which asks before it begins a run. The age is told on Linux only (proc_pid_stat(5)).
    """
    if pid == os.getpid():
        return False
    if os.name == "nt":  # there, os.kill(pid, 0) would press Ctrl-C in it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    began = _began(pid)
    return began is None or began <= heard_at.timestamp() + CLOCKS_DIFFER_BY_S


def _began(pid: int) -> float | None:
    """When a process began, in seconds since 1970; infinity for one that has ended already; None: unknown."""
    try:
        # The second field is the program's name in parentheses, which may hold anything.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        state, ticks = fields[0], int(fields[19])
        up_s = float((PROC / "uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    if state in "ZX":
        return float("inf")
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")
