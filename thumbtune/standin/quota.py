"""The Data API's quota: units per call, counted per key, with a daily limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["PRICES", "Quota"]

PRICES: Mapping[str, int] = MappingProxyType({"channels": 1, "playlistItems": 1, "videos": 1})
"""Units per call, by method (https://developers.google.com/youtube/v3/determine_quota_cost)."""


class Quota:
    """Counts units per key.

    Attributes:
        limit: the number of units that each key may spend (None: no limit); it can be changed at any time. A call that
            costs more than the remaining units is refused and costs nothing.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._used: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Units spent by all keys together."""
        return self._used.total()

    def used(self, key: str) -> int:
        """Units spent by a key."""
        return self._used[key]

    def charge(self, key: str, units: int) -> bool:
        """Spend units of a key; return False, and spend nothing, if they exceed the limit."""
        if self.limit is not None and self._used[key] + units > self.limit:
            return False
        self._used[key] += units
        return True

    def reset(self) -> None:
        """Start a new day: reset every key's count to zero."""
        self._used.clear()
