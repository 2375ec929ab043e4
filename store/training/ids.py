"""The numbers that rows go by: a user may type any whole number as one, and no database takes them all."""

from __future__ import annotations

__all__ = ["can_be_id"]

_LARGEST = 2**31 - 1
"""What PostgreSQL's `integer` holds. SQLite's holds more, but counts up from 1 all the same."""


def can_be_id(number: int) -> bool:
    """Whether a row can have this id; asked about others, the databases don't say "none" but fail."""
    return 1 <= number <= _LARGEST
