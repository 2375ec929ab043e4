"""Which machine this is, for rows that say where the process runs that writes them."""

from __future__ import annotations

import socket
from pathlib import Path

__all__ = ["this_machine"]

PROC = Path("/proc")


def this_machine() -> str:
    """A name for what process numbers are unique in: not the host name alone, which machines and containers can share.

    On Linux the boot and the namespace of process numbers are part of it (pid_namespaces(7)).
    """
    name = socket.gethostname()
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return name
    return f"{name} ({boot[:8]}-{namespace:x})"
