"""A channel's Atom feed: about 15 of its newest uploads, without quota cost. It is sometimes late or unavailable."""

from __future__ import annotations

import logging
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from collector.errors import ApiError, BadAnswer, CollectorError
from collector.http import Answer, Http, Request

__all__ = ["newest_in_feed", "parse_feed"]

log = logging.getLogger(__name__)

_ATOM = "{http://www.w3.org/2005/Atom}"
_YT = "{http://www.youtube.com/xml/schemas/2015}"
MAX_BYTES = 4 << 20


def parse_feed(body: bytes, channel_id: str) -> list[str]:
    """The video ids in a channel's feed, newest first.

    Raises:
        BadAnswer: the body is not XML, not an Atom feed, or the feed of another channel.
    """
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise BadAnswer("the feed is not XML") from error
    if root.tag != f"{_ATOM}feed":
        raise BadAnswer("the feed is not an Atom feed")
    owner = (root.findtext(f"{_YT}channelId") or "").strip()
    # YouTube omits the UC in the feed's own channelId element.
    if owner and owner.removeprefix("UC") != channel_id.removeprefix("UC"):
        raise BadAnswer("the feed belongs to another channel")
    ids = [(entry.findtext(f"{_YT}videoId") or "").strip() for entry in root.iter(f"{_ATOM}entry")]
    return [video_id for video_id in ids if video_id]


async def newest_in_feed(http: Http, feed_url: str, channel_id: str) -> list[str] | None:
    """The ids of the newest videos; None if the feed can't be read, so that the uploads must be listed by the API."""
    request = Request(feed_url, params=(("channel_id", channel_id),), max_bytes=MAX_BYTES)

    def read(answer: Answer) -> list[str]:
        if answer.status != 200 or not answer.complete:
            raise ApiError(f"the feed answered {answer.status}", status=answer.status)
        return parse_feed(answer.body, channel_id)

    try:
        return await http.get(request, read)
    except CollectorError as error:
        log.info("the feed of %s can't be used, so the uploads are listed: %s", channel_id, error)
        return None
