"""Remove passwords from URLs before they are shown in messages and logs."""

from __future__ import annotations

import re

__all__ = ["shown_message", "shown_url"]

_SHOWN = frozenset(
    {
        "application_name",
        "connect_timeout",
        "dbname",
        "host",
        "hostaddr",
        "port",
        "sslmode",
        "target_session_attrs",
        "user",
    }
)
"""Query parameters whose values are shown. All others are hidden: a misspelled `password` is still a password,
and `options` may set one."""
_PLAIN = re.compile(r"[\w.,/-]*")
"""Values that are shown: without separators, after which a password may follow."""

_PARAMETER = re.compile(r"([^?&=]*)=([^&]*)")
_WORD = re.compile(r"(\w*(?:pass|pwd)\w*\s*=\s*)\S+", re.IGNORECASE)
_NO_PORT = re.compile(r"(://[^/?#]*:)(?!\d*(?:[/?#]|$))[^/?#@:\[\]]+(?=[/?#]|$)")
"""What is in a port's place and is no number: without a host, it is the password."""


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
    return shown_message(_NO_PORT.sub(r"\1***", text))


def shown_message(text: str) -> str:
    """Return a message of a database with what follows `password=`, and similar words, replaced by `***`."""
    return _WORD.sub(r"\1***", text)


def _hidden(found: re.Match[str]) -> str:
    name, value = found.groups()
    return f"{name}={value if name.lower() in _SHOWN and _PLAIN.fullmatch(value) else '***'}"
