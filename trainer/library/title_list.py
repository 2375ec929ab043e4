"""Parse a list of titles from a file or standard input."""

from __future__ import annotations

from trainer.errors import BadSetting

__all__ = ["titles_in"]


def titles_in(content: bytes, name: str) -> list[str]:
    """Return the titles in a file: UTF-8 with or without a byte-order mark, one title per line, blank lines skipped.

    Raises:
        BadSetting: the content is not UTF-8; the message contains `name`.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSetting(f"{name} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8") from error
    # Not `splitlines`: it also splits at rarer characters, which a title may contain.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.strip() for line in lines if line.strip()]
