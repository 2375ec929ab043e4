"""The parameters of a call, validated like in the real API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thumbtune.standin.errors import ApiError

__all__ = ["Query"]

MAX_IDS = 50
"""The maximum number of ids and of results per call."""

_DEFAULT_PAGE = 5


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON = _names("alt key part prettyPrint")
_PARAMETERS = {
    "channels": _names("forHandle forUsername id maxResults"),
    "playlistItems": _names("maxResults pageToken playlistId videoId"),
    "videos": _names("id maxResults"),
}
_PARTS = {
    "channels": _names("contentDetails id snippet statistics status"),
    "playlistItems": _names("contentDetails id snippet status"),
    "videos": _names("contentDetails id liveStreamingDetails player snippet statistics status"),
}


class Query:
    """The parameters of a call.

    Args:
        method: the name of the list method.
        values: all values of each parameter.

    Raises:
        ApiError: this server does not have a parameter or a part, or `part` is missing.
    """

    def __init__(self, method: str, values: Mapping[str, Sequence[str]]) -> None:
        self._values = values
        for name in values:
            if name not in _COMMON | _PARAMETERS[method]:
                # Ignoring a filter would give a wrong response.
                raise ApiError.unsupported(f"{name} in {method}")
        self.parts = self.split("part")
        if not self.parts:
            raise ApiError.missing_part()
        for part in self.parts:
            if part not in _PARTS[method]:
                raise ApiError.unknown_part(part)

    def one(self, name: str) -> str | None:
        """Return the first value, or None if it is missing or empty."""
        values = self._values.get(name)
        return (values[0] or None) if values else None

    def split(self, name: str) -> list[str]:
        """Return a list parameter's values, which may be repeated, comma-separated, or both."""
        values = self._values.get(name, ())
        return [item for value in values for item in map(str.strip, value.split(",")) if item]

    def ids(self) -> list[str]:
        """Return the values of `id`, without duplicates.

        Raises:
            ApiError: there are more than 50 ids.
        """
        ids = self.split("id")
        if len(ids) > MAX_IDS:
            raise ApiError.invalid_filter()
        return list(dict.fromkeys(ids))

    def page_size(self) -> int:
        """Return `maxResults`, 5 by default; 0 is allowed and gives a page without items.

        Raises:
            ApiError: the value is not a number from 0 to 50.
        """
        text = self.one("maxResults")
        if text is None:
            return _DEFAULT_PAGE
        if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) > MAX_IDS:
            raise ApiError.invalid_value("maxResults", text, f"Values must be within the range: [0, {MAX_IDS}]")
        return int(text)
