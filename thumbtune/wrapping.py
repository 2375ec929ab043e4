"""Wrap lines for a terminal between words: the terminal itself breaks them anywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TextIO

__all__ = ["terminal_width", "wrapped"]

UNBOUNDED = 1_000_000
"""The width of a pipe."""
DEFAULT_WIDTH = 80
"""The width of a terminal that does not tell its own."""

_PIECE = re.compile(r"(?<!\w)'thumbtune [^']*'[^\s\w]*|\S+")
"""A word, or a quoted command, which must stay on one line to be copied."""


def terminal_width(stream: TextIO) -> int:
    """Return the number of cells in a line of `stream`; COLUMNS takes precedence. `UNBOUNDED` if it is no terminal."""
    if not stream.isatty():
        return UNBOUNDED
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or DEFAULT_WIDTH
    except (OSError, ValueError):  # ValueError: io.UnsupportedOperation, a stream without a file
        return DEFAULT_WIDTH


def wrapped(text: str, width: int) -> Iterator[str]:
    """Divide `text` into lines of at most `width` cells, between words; a longer word is a line of its own.

    A text that is short enough is returned as it is. A text that begins with a space is never divided: it is a command
    to copy, or is aligned.

    Args:
        text: one line.
        width: the number of cells.
    """
    from rich.cells import cell_len  # noqa: PLC0415 (only when a line may be too long)

    if text[:1] == " " or cell_len(text) <= width:
        yield text
        return
    line = ""
    for piece in _PIECE.findall(text):
        if line.strip() and cell_len(line) + 1 + cell_len(piece) > width:
            yield line
            line = piece
        else:
            line = f"{line} {piece}" if line.strip() else line + piece
    yield line
