"""Words of messages."""

from __future__ import annotations

__all__ = ["counted"]


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends in s: `1 video`, `2,000 videos`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
