"""Which machine this is, for rows that say where the process runs that writes them."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

__all__ = ["this_machine"]

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
