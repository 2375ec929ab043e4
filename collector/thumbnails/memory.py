"""Memory that is let go goes back to the system: a service that met one large picture must not stay large."""

from __future__ import annotations

import ctypes

__all__ = ["return_large_blocks"]

LARGE_BLOCK_BYTES = 256 << 10
"""Larger than YouTube's thumbnails, whole or decoded as they are here, nearly all are."""
_M_MMAP_THRESHOLD = -3


def return_large_blocks() -> None:
    """Make glibc take large blocks straight from the system; a no-op with other C libraries.

    By itself it raises that threshold to the size of what was freed last, up to 32 MiB, and keeps such blocks in
    arenas of each thread, in pieces (mallopt(3), M_MMAP_THRESHOLD).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS; Windows
        return
    mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)
