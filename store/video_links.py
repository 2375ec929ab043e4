"""The URL of a video, and the id of a video in the URLs that YouTube, its apps and YouTube Studio show or share."""

from __future__ import annotations

import re

__all__ = ["video_id_in", "video_url"]

_LINK = re.compile(
    r"(?:(?:https?:)?//)?(?:"
    r"(?:(?:www|m|music|gaming)\.)?youtube(?:-nocookie)?\.com/"
    r"(?:watch/?\?(?:[^#]*&)?v=|(?:shorts|live|embed|watch|v|e)/)"
    r"|studio\.youtube\.com/video/"
    r"|(?:www\.)?youtu\.be/"
    r"|i[0-9]?\.ytimg\.com/(?:vi|vi_webp|an_webp)/|img\.youtube\.com/vi/"
    r")(?P<id>[A-Za-z0-9_-]{11})(?:[?&#/].*)?",
    re.IGNORECASE | re.DOTALL,
)


def video_id_in(text: str) -> str | None:
    """Return the video id in a URL of a video or of its thumbnail; None for any other text.

    The URL may lack its scheme, and may have further parameters, such as a playlist and a time.
    """
    found = _LINK.fullmatch(text.strip())
    return None if found is None else found["id"]


def video_url(video_id: str) -> str | None:
    """Return the URL of a stored video; None for one that was imported without YouTube's id."""
    return None if video_id.startswith("file-") else f"https://youtu.be/{video_id}"
