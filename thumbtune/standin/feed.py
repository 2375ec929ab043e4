"""The channel's Atom feed, in the form of `https://www.youtube.com/feeds/videos.xml?channel_id=`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, tostring

from thumbtune.standin.catalogue import Catalogue, StandInVideo
from thumbtune.standin.resources import statistics

__all__ = ["feed_xml"]

ENTRIES = 15
"""The number of videos in the feed."""

_NAMESPACES = {
    "xmlns:yt": "http://www.youtube.com/xml/schemas/2015",
    "xmlns:media": "http://search.yahoo.com/mrss/",
    "xmlns": "http://www.w3.org/2005/Atom",
}
_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def feed_xml(catalogue: Catalogue, base_url: str, lag: int = 0) -> bytes:
    """Return the feed of the newest 15 public videos as UTF-8.

    `lag` is the number of the newest videos that the feed does not show yet; the real feed can be hours late.
    """
    public = catalogue.public(lag + ENTRIES)[lag:]
    site = f"https://www.youtube.com/channel/{catalogue.channel_id}"
    bare = catalogue.channel_id.removeprefix("UC")  # ids of the feed itself, unlike those of its entries, omit the UC
    feed = Element("feed", _NAMESPACES)
    SubElement(feed, "link", rel="self", href=f"{base_url}/feeds/videos.xml?channel_id={catalogue.channel_id}")
    _text(feed, "id", f"yt:channel:{bare}")
    _text(feed, "yt:channelId", bare)
    _text(feed, "title", catalogue.title)
    SubElement(feed, "link", rel="alternate", href=site)
    _author(feed, catalogue, site)
    oldest = min((v.published_at for v in catalogue.public()), default=datetime(2006, 1, 1, tzinfo=UTC))
    _text(feed, "published", _time(oldest))
    for video in public:
        _entry(feed, catalogue, video, site, base_url)
    declaration = b'<?xml version="1.0" encoding="UTF-8"?>\n'
    return declaration + tostring(feed, encoding="unicode").encode("utf-8")


def _entry(feed: Element, catalogue: Catalogue, video: StandInVideo, site: str, base_url: str) -> None:
    entry = SubElement(feed, "entry")
    _text(entry, "id", f"yt:video:{video.id}")
    _text(entry, "yt:videoId", video.id)
    _text(entry, "yt:channelId", catalogue.channel_id)
    _text(entry, "title", video.title)
    SubElement(entry, "link", rel="alternate", href=_clean(f"https://www.youtube.com/watch?v={video.id}"))
    _author(entry, catalogue, site)
    _text(entry, "published", _time(video.published_at))
    _text(entry, "updated", _time(video.updated_at or video.published_at))
    group = SubElement(entry, "media:group")
    _text(group, "media:title", video.title)
    player = _clean(f"https://www.youtube.com/v/{video.id}?version=3")
    SubElement(group, "media:content", url=player, type="application/x-shockwave-flash", width="640", height="390")
    picture = _clean(f"{base_url}/vi/{video.id}/hqdefault.jpg")
    SubElement(group, "media:thumbnail", url=picture, width="480", height="360")
    _text(group, "media:description", video.description)
    community = SubElement(group, "media:community")
    counts = statistics(video)
    SubElement(community, "media:starRating", count=counts.get("likeCount", "0"), average="5.00", min="1", max="5")
    SubElement(community, "media:statistics", views=counts.get("viewCount", "0"))


def _author(parent: Element, catalogue: Catalogue, site: str) -> None:
    author = SubElement(parent, "author")
    _text(author, "name", catalogue.title)
    _text(author, "uri", site)


def _text(parent: Element, tag: str, text: str) -> None:
    SubElement(parent, tag).text = _clean(text)


def _clean(text: str) -> str:
    # XML 1.0 can't represent most control characters, nor lone surrogates.
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
