"""Remove passwords from URLs before they are shown in messages and logs."""

from __future__ import annotations

import re

__all__ = ["shown_url"]

_SHOWN = frozenset(
    {
        "application_name",
        "connect_timeout",
        "dbname",
        "host",
        "hostaddr",
        "options",
        "port",
        "sslmode",
        "target_session_attrs",
        "user",
    }
)
"""Query parameters whose values are shown. All other values are hidden: a misspelled `password` is still a password."""

_PARAMETER = re.compile(r"([^?&=]*)=([^&]*)")
_WORD = re.compile(r"(\w*pass\w*\s*=\s*)\S+", re.IGNORECASE)


def shown_url(text: str) -> str:
    """Return a URL with its password, and the values of unknown query parameters, replaced by `***`.

    Args:
        text: any text that a user gave as a URL; it need not be one. Whatever is before its last `@` counts as user
            name and password.
    """
    before, at, after = text.rpartition("@")
    scheme, mark, credentials = before.partition("://")
    if at and mark:
        user, colon, _ = credentials.partition(":")
        text = f"{scheme}://{user}{':***' if colon else ''}@{after}"
    elif at:
        text = f"***@{after}"
    path, question, query = text.partition("?")
    if question:
        text = f"{path}?{_PARAMETER.sub(_hidden, query)}"
    return _WORD.sub(r"\1***", text)


def _hidden(found: re.Match[str]) -> str:
    name, value = found.groups()
    return f"{name}={value if name.lower() in _SHOWN else '***'}"
