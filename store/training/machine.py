"""Identify this machine, and check whether a row's process is running on it."""

from __future__ import annotations

import socket
import uuid
from datetime import datetime
from pathlib import Path

from store.processes import is_alive

__all__ = ["has_ended", "lives_here", "this_machine"]

PROC = Path("/proc")
_MADE_UP = 1 << 40
"""The bit that marks a random result of `uuid.getnode`, which differs each time, because it found no MAC address."""


def this_machine() -> str:
    """Return a name for the scope in which process ids are unique. Machines and containers can share a host name.

    On Linux it includes the boot id and the PID namespace (pid_namespaces(7)); elsewhere the MAC address, if known.
    """
    name = socket.gethostname()
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return name if _MADE_UP & (node := uuid.getnode()) else f"{name} ({node:012x})"
    return f"{name} ({boot[:8]}-{namespace:x})"


def lives_here(host: str, pid: int, heard_at: datetime, start: int | None = None) -> bool:
    """Whether the process that was running on `host` at `heard_at` is still running on this machine."""
    return _is_here(host) and is_alive(pid, heard_at, start)


def has_ended(host: str, pid: int, heard_at: datetime, start: int | None = None) -> bool | None:
    """Whether the process that was running on `host` at `heard_at` has ended; None if unknown.

    It is unknown for other machines (even with this host name), for processes from before this machine's last boot, and
    for a process that seems to be running, but whose start was not recorded.
    """
    if not _is_here(host):
        return None
    return (None if start is None else False) if is_alive(pid, heard_at, start) else True


def _is_here(host: str) -> bool:
    # Rows of earlier versions contain only the host name.
    return host in (this_machine(), socket.gethostname())
