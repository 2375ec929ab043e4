"""Reading a list of titles from bytes: a file that the user names, or standard input."""

from __future__ import annotations

from trainer.errors import BadSetting

__all__ = ["titles_in"]


def titles_in(content: bytes, name: str) -> list[str]:
    """The titles in a file: UTF-8 with or without a byte-order mark, one a line, blank lines skipped.

    Raises:
        BadSetting: it is not UTF-8; the message has `name`.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSetting(f"{name} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from error
    # Not `splitlines`: a title may hold one of the rarer characters that it takes for the end of a line.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]
