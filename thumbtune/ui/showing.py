"""Format text for the page. Pure functions: titles can't spoof the page, and messages reveal no paths or passwords."""

from __future__ import annotations

import re
import sys
import tempfile
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from store.urls import shown_text
from store.video_links import video_url

__all__ = ["base_name", "command_in", "moment", "number", "plain_title", "secrets_hidden", "video_link"]

_KEPT = frozenset("\u061c\u200e\u200f")
"""Marks that Arabic and Hebrew titles need. In an element with its own direction, they don't affect other text."""
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LONGEST = 1000
_LONGEST_MESSAGE = 10_000
"""Of a longer message, the rest is not examined; nobody reads it."""
_MOST_MARKS = 4
"""The maximum number of combining characters on one letter; more would overlap other lines."""

_PATH = re.compile(r"(?:file:/+|(?<![\w:/.~-])~?/)(?:[^\s/:;,'\"()<>]+/)+([^\s/:;,'\"()<>]*)")
_WINDOWS_PATH = re.compile(r"(?<!\w)[A-Za-z]:\\(?:[^\s\\:;,'\"()<>]+\\)*([^\s\\:;,'\"()<>]*)")
_STORE_URL = re.compile(r"\b(sqlite|postgres(?:ql)?)(?:\+\w{1,20})?://(?:\S{0,1000}@)?[^\s;,'\"()<>]*")
_COMMAND = re.compile(r"'(thumbtune [^']+)'|(pip install 'thumbtune\[[\w,]+\]')")
_KEY = re.compile(r"\b(?:AIza[\w-]{20,}|hf_\w{20,})|((?:key|token)=)[^\s&;,]+")


def plain_title(text: str) -> str:
    """Return text with control and reordering characters replaced by their visible numbers.

    YouTube's titles have at most 100 characters; of a longer text, the first 1000 are shown.
    """
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    shown: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MOST_MARKS:
            continue
        if char in _REORDERING or (category in ("Cc", "Cs", "Zl", "Zp") and char not in _KEPT):
            shown.append(f"⟨U+{ord(char):04X}⟩")
        else:
            shown.append(char)
    return "".join(shown)


def secrets_hidden(text: str, folders: Iterable[Path] = ()) -> str:
    """Return a message without local paths (only their last part), store URLs, users in URLs, and keys.

    Args:
        text: the message.
        folders: folders to remove wherever they occur, even if their names contain spaces.
    """
    if len(text) > _LONGEST_MESSAGE:
        # A word that is cut may be a URL whose password would no longer be recognised.
        text = f"{text[:_LONGEST_MESSAGE].rpartition(' ')[0]}…"
    known = [*folders, Path.cwd(), Path.home(), Path(sys.prefix), Path(tempfile.gettempdir())]
    text = shown_text(text)
    text = _STORE_URL.sub(lambda found: f"the {'SQLite' if found[1] == 'sqlite' else 'PostgreSQL'} store", text)
    for folder in sorted({str(folder) for folder in known if len(folder.parts) > 1}, key=len, reverse=True):
        text = text.replace(f"{folder}/", "").replace(folder, Path(folder).name)
    text = _WINDOWS_PATH.sub(r"\1", _PATH.sub(r"\1", text))
    return _KEY.sub(lambda found: f"{found[1] or ''}…", text)


def command_in(text: str) -> str:
    """Return the first command that a message names, to be shown for copying; empty if it names none."""
    found = _COMMAND.search(text)
    if found is not None:
        return found[1] or found[2]
    return "thumbtune train" if "train again" in text else ""


def base_name(model: str) -> str:
    """Return a base model's display name: a hub name unchanged, the last part of a folder's path."""
    is_folder = model.startswith(("/", ".", "~")) or "\\" in model or model.count("/") > 1
    return Path(model.replace("\\", "/").rstrip("/")).name if is_folder else model


def moment(value: datetime | None) -> str:
    """Format a time as date, hour and minute (UTC)."""
    return "" if value is None else f"{value:%Y-%m-%d %H:%M}"


def number(value: object, digits: int = 3) -> str:
    """Format a number for a table: fractions with `digits` digits, integers with thousands separators."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def video_link(video_id: str) -> str | None:
    """Return a video's URL on YouTube; None for one that was imported without YouTube's id."""
    return video_url(quote(video_id, safe=""))
