"""The machine that a row's process runs on, and whether that process is still running there."""

from __future__ import annotations

import socket
import uuid
from datetime import datetime
from pathlib import Path

from store.processes import is_alive

__all__ = ["has_ended", "lives_here", "this_machine"]

PROC = Path("/proc")
_MADE_UP = 1 << 40
"""The bit that `uuid.getnode` sets in a random number, which it gives when it finds no address: another each time."""


def this_machine() -> str:
    """A name for what process numbers are unique in: not the host name alone, which machines and containers can share.

    On Linux the boot and the namespace of process numbers are part of it (pid_namespaces(7)); elsewhere the network
    card's address, if there is one.
    """
    name = socket.gethostname()
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return name if _MADE_UP & (node := uuid.getnode()) else f"{name} ({node:012x})"
    return f"{name} ({boot[:8]}-{namespace:x})"


def lives_here(host: str, pid: int, heard_at: datetime) -> bool:
    """Whether the process that was running on `host` at `heard_at` is still running, and on this machine."""
    return _is_here(host) and is_alive(pid, heard_at)


def has_ended(host: str, pid: int, heard_at: datetime) -> bool:
    """Whether the process that was running on `host` at `heard_at` is known to have ended.

    Nothing is known of other machines, even if they have this one's name, nor of this one before its last boot.
    """
    return _is_here(host) and not is_alive(pid, heard_at)


def _is_here(host: str) -> bool:
    # Rows that were written before the boot was part of the name have the host name alone.
    return host in (this_machine(), socket.gethostname())
