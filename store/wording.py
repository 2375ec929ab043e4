"""Words of messages."""

from __future__ import annotations

__all__ = ["counted"]


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: `1 video`, `2,000 videos`; `plural` for a noun whose plural does not end in s."""
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"
