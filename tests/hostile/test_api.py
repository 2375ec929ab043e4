"""Invalid API responses: their effect is bounded and recorded, no sync crashes, and the store stays consistent."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzzing import damaged
from collector.errors import BadAnswer, ChannelGone, ChannelNotFound, CollectorError, PageLoop
from collector.http import Answer
from collector.youtube.api_errors import error_from
from store.db import Database
from tests.collector.channels import contents, failures, sync_runs
from tests.collector.test_parsing import JSON
from tests.hostile.api import CHANNEL_ID, RawApi, as_json, channel_body, page_body, video_item, videos_body

IDS = [f"video{number:06d}" for number in range(5)]


class Channel:
    """A channel with a valid response to each call; tests replace some responses."""

    def __init__(self) -> None:
        self.api = RawApi(self.answer)
        self.replaced: dict[str, bytes] = {}

    def answer(self, method: str, query: Mapping[str, str]) -> bytes:
        return self.replaced.get(method) or as_json(self.honest(method, query))

    def honest(self, method: str, query: Mapping[str, str]) -> dict[str, Any]:
        if method == "channels":
            return channel_body()
        if method == "playlistItems":
            return page_body(IDS)
        asked = query["id"].split(",")
        return videos_body([video_item(i, f"Title {i}", self.api.thumbnails(i)) for i in asked])


async def test_items_without_fields_do_not_affect_others(database: Database) -> None:
    channel = Channel()
    async with channel.api as api:
        good = [video_item(i, f"Title {i}", api.thumbnails(i)) for i in IDS[:2]]
        bare: list[Any] = [
            {"id": IDS[2]},
            {"id": IDS[3], "snippet": 7, "contentDetails": [], "status": "x", "liveStreamingDetails": None},
            {"id": IDS[4], "snippet": {"title": ["x"], "thumbnails": "y", "liveBroadcastContent": {}}},
            {"id": ["x"]},
            {},
            None,
            "text",
            video_item("notasked0000", "never asked for", api.thumbnails("x")),
        ]
        channel.replaced["videos"] = as_json(videos_body(bare + good))
        channel.replaced["playlistItems"] = as_json(page_body([*IDS, None, {}, 5, "../../etc/passwd", "x" * 70]))
        report = await api.sync(database)
    assert (report.status, report.new, report.pictures_fetched) == ("complete", 5, 2)
    stored = contents(database)
    assert list(stored) == IDS
    assert [stored[i][0] for i in IDS] == [f"Title {IDS[0]}", f"Title {IDS[1]}", "", "", ""]
    assert [stored[i][1] for i in IDS] == ["video", "video", "unknown", "unknown", "unknown"]


async def test_invalid_thumbnail_urls_are_reasons(database: Database) -> None:
    links: list[Any] = [
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
        "https://[bad",
        "x" * 3_000,
        {},
    ]
    channel = Channel()
    async with channel.api as api:
        items = [video_item(i, f"Title {i}", {"high": {"url": link}}) for i, link in zip(IDS, links, strict=True)]
        channel.replaced["videos"] = as_json(videos_body(items))
        report = await api.sync(database)
    assert (report.status, report.pictures_failed) == ("partial", 5)
    reasons = failures(database)
    assert [("not an allowed thumbnail host" in reasons[i], "lists no thumbnail" in reasons[i]) for i in IDS] == [
        *([(True, False)] * 3),
        *([(False, True)] * 2),
    ]


async def test_a_repeated_video_is_one_video(database: Database) -> None:
    channel = Channel()
    async with channel.api as api:
        item = video_item(IDS[0], "Title", api.thumbnails(IDS[0]))
        channel.replaced["videos"] = as_json(videos_body([item] * 60))
        pages = iter([page_body([IDS[0]] * 60, nextPageToken="a"), page_body([IDS[0]] * 60)])
        channel.api.answer = lambda method, query: (
            as_json(next(pages)) if method == "playlistItems" else channel.answer(method, query)
        )
        report = await api.sync(database)
    assert (report.status, report.new, report.pictures_fetched) == ("complete", 1, 1)
    assert list(contents(database)) == IDS[:1]


@pytest.mark.parametrize("ever_new", [False, True])
async def test_endless_pages_end_the_listing_and_are_recorded(sqlite_database: Database, ever_new: bool) -> None:
    channel, tokens = Channel(), iter(range(100_000))

    def answer(method: str, query: Mapping[str, str]) -> bytes:
        if method != "playlistItems":
            return channel.answer(method, query)
        token = f"token {next(tokens)}" if ever_new else "again"
        return as_json(page_body(IDS, nextPageToken=token, pageInfo={"totalResults": 5}))

    channel.api.answer = answer
    async with channel.api as api:
        report = await api.sync(sqlite_database)
        assert api.calls.count("playlistItems") <= 30
        assert (report.status, report.exit_code, report.pictures_fetched) == ("failed", 1, 5)
        assert isinstance(report.error, PageLoop)
        (run,) = sync_runs(sqlite_database)
        assert (run.status, "does not end" in str(run.error)) == ("failed", True)
        asked: list[str | None] = []

        def honest(method: str, query: Mapping[str, str]) -> bytes:
            asked.extend([query.get("pageToken")] if method == "playlistItems" else [])
            return channel.answer(method, query)

        channel.api.answer = honest
        assert (await api.sync(sqlite_database)).status == "complete"
        assert asked == [None], "it starts over"


async def test_after_endless_pages_missing_videos_are_not_checked(sqlite_database: Database) -> None:
    channel = Channel()
    async with channel.api as api:
        assert (await api.sync(sqlite_database)).status == "complete"
        some = page_body(IDS[:2], nextPageToken="again", pageInfo={"totalResults": 5})
        channel.replaced["playlistItems"] = as_json(some)
        api.calls.clear()
        assert (await api.sync(sqlite_database, mode="full")).status == "failed"
        assert "videos" not in api.calls
    assert {row[2] for row in contents(sqlite_database).values()} == {"available"}


@pytest.mark.parametrize("token", [5, ["x"], {"a": 1}, "x" * 5_000, "\u202e", True])
async def test_an_invalid_token_is_an_error(sqlite_database: Database, token: object) -> None:
    channel = Channel()
    async with channel.api as api:
        channel.replaced["playlistItems"] = as_json(page_body(IDS[:2], nextPageToken=token))
        report = await api.sync(sqlite_database)
        assert isinstance(report.error, BadAnswer)
        assert "token" in str(report.error)
        channel.replaced.clear()
        report = await api.sync(sqlite_database)
        assert (report.status, len(contents(sqlite_database))) == ("complete", 5)


@pytest.mark.parametrize("channel_id", ["UC/../../../../../../../x", "x" * 10_000, 5, None, "UCshort"])
async def test_a_channel_with_an_invalid_id_is_not_stored(sqlite_database: Database, channel_id: object) -> None:
    channel = Channel()
    async with channel.api as api:
        channel.replaced["channels"] = as_json(channel_body(id=channel_id))
        report = await api.sync(sqlite_database)
    assert (report.status, report.id) == ("failed", None)
    assert isinstance(report.error, ChannelNotFound)
    assert sync_runs(sqlite_database) == []


@pytest.mark.slow
async def test_a_response_for_another_channel_counts_as_no_channel(sqlite_database: Database) -> None:
    channel = Channel()
    async with channel.api as api:
        assert (await api.sync(sqlite_database)).status == "complete"
        channel.replaced["channels"] = as_json(channel_body("Another", id="UC" + "y" * 22))
        report = await api.sync(sqlite_database, mode="refresh")
        assert isinstance(report.error, ChannelGone)
    assert {run.channel_id for run in sync_runs(sqlite_database)} == {CHANNEL_ID}


@pytest.mark.parametrize("deep", [40, 400, 900])
async def test_values_that_databases_cannot_read_back_are_not_stored(database: Database, deep: int) -> None:
    channel = Channel()
    async with channel.api as api:
        for extra in (b"[" * deep + b"]" * deep, b"1e999", b'"\\ud800"', b'"\xed\xa0\x80"', b"1" * 4_000):
            item = json.dumps(video_item(IDS[0], "Title", api.thumbnails(IDS[0]))).encode()
            body = item[:-1] + b', "extra": ' + extra + b"}"
            channel.replaced["videos"] = b'{"kind": "youtube#videoListResponse", "items": [' + body + b"]}"
            report = await api.sync(database, mode="full")
            assert report.status in ("complete", "failed")
            assert report.error is None or isinstance(report.error, BadAnswer)
        # The next sync can read the store, whatever was received.
        channel.replaced.clear()
        assert (await api.sync(database, mode="full")).status == "complete"


@pytest.mark.slow
@given(body=st.data())
@settings(max_examples=12, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_json_is_handled_by_a_sync(sqlite_database: Database, body: st.DataObject) -> None:
    channel = Channel()
    method = body.draw(st.sampled_from(["channels", "playlistItems", "videos"]))
    async with channel.api as api:
        honest = channel.honest(method, {"id": ",".join(IDS)})
        seed, value = body.draw(st.integers(0, 2**32)), body.draw(JSON)
        channel.replaced[method] = as_json(damaged(honest, random.Random(seed), value))
        await api.sync(sqlite_database, mode="full")
        channel.replaced.clear()
        report = await api.sync(sqlite_database, mode="refresh")
        assert report.error is None
    assert set(contents(sqlite_database)) <= set(IDS)


async def test_a_refused_channel_is_still_synced_the_next_day(sqlite_database: Database) -> None:
    channel = Channel()
    async with channel.api as api:
        assert (await api.sync(sqlite_database)).status == "complete"
        channel.replaced["playlistItems"] = b"[]"
        # The feed is invalid, so the uploads are requested, and their list is invalid, too.
        assert (await api.sync(sqlite_database)).status == "failed"
        channel.replaced.clear()
        assert (await api.sync(sqlite_database)).status in ("complete", "unchanged")


LONG_TEXTS = {
    "tags that never end": "<" * 400_000,
    "tags in tags": "<a " * 100_000,
    "a character of 5,000 digits": "&#" + "9" * 5_000 + ";",
    "hexadecimal digits": "&#x" + "f" * 300_000 + ";",
    "ampersands": "&" * 400_000,
    "spaces": " " * 400_000 + "x",
    "a quota in many words": "Quota exceeded for " * 30_000 + "per day",
    "a list": ["x"] * 100_000,
    "a number": 10**4000,
    "an object": {"a": {"b": "<" * 100_000}},
}


@pytest.mark.parametrize("field", ["message", "details", "status", "reason"])
@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
@pytest.mark.parametrize("status", [400, 403, 429])
def test_an_error_of_any_length_is_one_short_line(field: str, text: Any, status: int) -> None:
    error: dict[str, Any] = {"code": status, "message": "m", "errors": [{"reason": "x", "message": "m"}]}
    if field == "reason":
        error["errors"][0]["reason"] = text
    else:
        error[field] = text
    found = error_from(Answer("http://x/", status, {}, json.dumps({"error": error}).encode(), True), "host", "key")
    assert isinstance(found, CollectorError)
    assert len(str(found)) < 600
    assert "\n" not in str(found)
