"""The Data API's quota: prices in units, counted by key, refused beyond a daily limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["PRICES", "Quota"]

PRICES: Mapping[str, int] = MappingProxyType({"channels": 1, "playlistItems": 1, "videos": 1, "search": 100})
"""Units a call, by method (https://developers.google.com/youtube/v3/determine_quota_cost)."""


class Quota:
    """Counts units by key.

    `limit` is the units that each key may spend (None: no limit); it can be set at any time. A call whose price
    no longer fits is refused and costs nothing.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._used: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Units spent by all keys together."""
        return self._used.total()

    def used(self, key: str) -> int:
        """Units spent by one key."""
        return self._used[key]

    def charge(self, key: str, units: int) -> bool:
        """Spend units of a key; False, and nothing spent, when they no longer fit into the limit."""
        if self.limit is not None and self._used[key] + units > self.limit:
            return False
        self._used[key] += units
        return True

    def reset(self) -> None:
        """Start a new day: every key's count is zero again."""
        self._used.clear()
