"""The feed: its content, and all responses that may come instead."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.errors import BadAnswer
from collector.youtube import newest_in_feed
from collector.youtube.feed import parse_feed
from tests.collector.channels import channel, hasty_http
from tests.standin import Fault, Faults, StandIn

ATOM = 'xmlns="http://www.w3.org/2005/Atom" xmlns:yt="http://www.youtube.com/xml/schemas/2015"'


def feed(inside: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><feed {ATOM}>{inside}</feed>'.encode()


async def test_the_newest_videos_come_first() -> None:
    async with StandIn(channel(30)) as server, hasty_http() as http:
        newest = await newest_in_feed(http, server.feed_url, server.catalogues[0].channel_id)
        assert newest == [f"video{number:06d}" for number in range(29, 14, -1)]


def test_a_feed_names_its_channel_with_or_without_uc() -> None:
    for owner in ("abc", "UCabc"):
        assert parse_feed(feed(f"<yt:channelId>{owner}</yt:channelId>"), "UCabc") == []
    with pytest.raises(BadAnswer, match="another channel"):
        parse_feed(feed("<yt:channelId>xyz</yt:channelId>"), "UCabc")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><p>no</html>",
        b"<rss/>",
        feed("<entry>")[:-20],
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such"?><feed/>',
        b'<!DOCTYPE f [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><feed xmlns="http://www.w3.org/2005/Atom">&b;</feed>',
        b'<!DOCTYPE f SYSTEM "file:///etc/passwd"><feed xmlns="http://www.w3.org/2005/Atom"/>',
    ],
)
def test_a_document_that_is_not_a_feed_is_refused(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_feed(body, "UCabc")


@given(st.binary() | st.text().map(feed))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        assert all(parse_feed(body, "UCabc"))


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path="/feeds", status=404),
        Fault("html", path="/feeds"),
        Fault("redirect", path="/feeds", location="http://127.0.0.1:9/"),
        Fault("body", path="/feeds", body=b" " * (5 << 20)),
    ],
    ids=["404", "html", "redirect", "endless"],
)
async def test_a_failed_feed_is_none(fault: Fault) -> None:
    async with StandIn(channel(3), faults=Faults([fault], most_in_a_row=None)) as server, hasty_http() as http:
        assert await newest_in_feed(http, server.feed_url, server.catalogues[0].channel_id) is None
