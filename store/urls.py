"""Remove passwords from URLs, and from messages about them, before they are shown in errors and logs.

A part of a URL is shown only if it has the expected form, because a password may be in the wrong place. The hidden
parts of a URL are also hidden in a driver's messages about it, because these quote values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, unquote_plus

__all__ = ["shown_file", "shown_message", "shown_text", "shown_url", "sqlite_url"]

_HIDDEN = "***"
_NAME = r"(?:[\w.+-]|%40)*"
_HOST = r"(?:[\w.-]*|\[[\da-fA-F:.%]+\])"
_HOSTS = rf"{_HOST}(?::\d*)?(?:,{_HOST}(?::\d*)?)*"
_PATH = r"(?:[\w./~+ -]|%20)*"
_SHOWN = {
    "connect_timeout": r"\d*",
    "dbname": _NAME,
    "host": rf"{_HOSTS}|/{_PATH}",
    "hostaddr": r"[\da-fA-F.:,]*",
    "port": r"[\d,]*",
    "sslmode": r"disable|allow|prefer|require|verify-ca|verify-full",
    "target_session_attrs": r"any|read-write|read-only|primary|standby|prefer-standby",
    "user": _NAME,
}
"""Query parameters whose values are shown if they match. All others are hidden: a misspelled `password` is still a
password, and `options` may set one."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_PLAIN_TEXT = re.compile(r"[^:@=?#&;\s]*")
_WORD = re.compile(r"(\w*(?:pass|pwd)\w*\s*=\s*)(?:\"[^\"]*\"?|'[^']*'?|\S+)", re.IGNORECASE)
_USERINFO = re.compile(
    r"(\w:/{1,2})(?:[^\s@/\"'<>]{1,1000}|[^\s@/\"'<>:]{1,1000}:(?!\d{1,5}/)[^\s@\"'<>]{1,1000})(?=@)"
)
"""User name and password. A URL that was parsed as a path has only one slash."""
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def sqlite_url(path: str | Path) -> str:
    """Return the URL of an SQLite file, in which `%` and `?` would not stand for themselves."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def shown_url(text: str) -> str:
    """Return a URL with everything that may be a password replaced by `***`.

    Args:
        text: a URL, or any other text that a user gave as a URL. All text before the last `@` counts as user name and
            password.
    """
    return "".join(part if shown else _HIDDEN for part, shown in _parts(text))


def shown_message(message: str, url: str = "") -> str:
    """Return a driver's message, with the values that `shown_url` hides in the URL replaced by `***`.

    A hidden value that is a single word is only replaced within quotes. Otherwise, a password such as `server` could be
    guessed from the gaps in a well-known message.

    Args:
        message: the message.
        url: the URL that the driver was given.
    """
    hidden = {part for part, shown in _parts(url) if not shown and part}
    hidden |= {unquote(part) for part in hidden} | {unquote_plus(part) for part in hidden}
    for value in sorted(hidden, key=len, reverse=True):
        if not re.fullmatch(r"\w*", value):
            message = message.replace(value, _HIDDEN)

    def unquoted(found: re.Match[str]) -> str:
        quote = found[0][0]
        return f"{quote}{_HIDDEN}{quote}" if any(value in found[0] for value in hidden) else found[0]

    return shown_text(_WORD.sub(rf"\1{_HIDDEN}", _QUOTED.sub(unquoted, message)))


def shown_text(text: str) -> str:
    """Return a text, with the user names and passwords of its URLs replaced by `***`."""
    return _USERINFO.sub(_without_userinfo, text) if ":/" in text else text


def _without_userinfo(found: re.Match[str]) -> str:
    return found[0] if found[0].endswith(f":{_HIDDEN}") else f"{found[1]}{_HIDDEN}"


def shown_file(path: str) -> str:
    """Return the path of a file with a secret; `***` if the file does not exist, because the text may be the secret."""
    try:
        return path if Path(path).exists() else _HIDDEN
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return _HIDDEN


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a URL, and whether each is shown."""
    found = _SCHEME.fullmatch(text)
    if found is None:
        yield text, bool(_PLAIN_TEXT.fullmatch(text))
        return
    scheme, rest = found.groups()
    yield f"{scheme}://", True
    if scheme == "sqlite" and rest.startswith("/"):
        path, query = _split(rest, "?")
        if ":" in rest.rpartition("@")[0]:
            yield rest, False
            return
        yield path, True
        yield from _query(query)
        return
    credentials, at, after = rest.rpartition("@")
    if at:
        user, colon, password = credentials.partition(":")
        yield from ((user, _is(_NAME, user)), (colon, True), (password, not colon), (at, True))
    before, fragment = _split(after, "#")
    before, query = _split(before, "?")
    authority, path = _split(before, "/")
    yield from _authority(authority)
    yield path, _is(_PATH, path)
    yield from _query(query)
    yield fragment, not fragment


def _authority(text: str) -> Iterator[tuple[str, bool]]:
    """The host and port. If the port is not a number, it is hidden: without a host, a password is in its place."""
    host, colon, port = text.rpartition(":")
    if _is(_HOSTS, text) or not colon:
        yield text, _is(_HOSTS, text)
    else:
        yield from ((host, _is(_HOSTS, host)), (colon, True), (port, False))


def _query(text: str) -> Iterator[tuple[str, bool]]:
    """The parameters, with the question mark."""
    for number, parameter in enumerate(text[1:].split("&") if text else ()):
        name, equals, value = parameter.partition("=")
        pattern = _SHOWN.get(name.lower())
        yield "&" if number else "?", True
        yield name, bool(equals) and _is("[a-z_]*", name)
        yield equals, True
        shown = pattern is not None and _is(pattern, unquote(value))
        yield (unquote(value) if shown else value), shown


def _split(text: str, mark: str) -> tuple[str, str]:
    """The text before the mark, and the rest including the mark."""
    before, found, after = text.partition(mark)
    return before, found + after


def _is(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None
