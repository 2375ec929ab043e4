"""The stand-in's Data API, tested with the real client, the API's schemas, and recorded answers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import googleapiclient
import pytest
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from PIL import Image

from tests.standin import StandIn
from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from
from thumbtune.standin.resources import iso_duration

KEY = "a-valid-key"
SAMPLES = Path(__file__).parents[3] / "shared" / "youtube-api-samples"
START = datetime(2020, 1, 1, 12, tzinfo=UTC)


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (480, 360), (10, 120, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


PICTURE = _jpeg()


def _video(number: int, **changes: Any) -> StandInVideo:
    video = StandInVideo(
        id=f"video{number:06d}",
        title=f"Title {number} & more",
        published_at=START + timedelta(hours=number),
        duration_s=200 + number,
        picture=lambda: PICTURE,
        description=f"What number {number} is about. " * 12,
        tags=("one", "two"),
    )
    return replace(video, **changes)


def _channel(videos: int, name: str = "test channel") -> Catalogue:
    catalogue = Catalogue(channel_id_from(name), "@TestChannel", "Test channel", "About tests")
    catalogue.publish(*(_video(n) for n in range(videos)))
    return catalogue


@pytest.fixture
def catalogue() -> Catalogue:
    """120 videos: one each private, deleted, unlisted, upcoming and live, and one without the large thumbnails."""
    channel = _channel(120)
    channel.change("video000003", privacy="private")
    channel.delete("video000004")
    channel.change("video000005", privacy="unlisted")
    channel.change("video000006", live="upcoming", duration_s=None)
    channel.change("video000007", live="live", duration_s=None)
    channel.change("video000008", missing_sizes=frozenset({"maxres", "standard"}))
    channel.change("video000009", duration_s=None, tags=())
    return channel


@pytest.fixture
def server(catalogue: Catalogue) -> Iterator[StandIn]:
    with StandIn(catalogue, keys=[KEY]) as running:
        yield running


def _client(server: StandIn, key: str = KEY) -> Any:
    return build(
        "youtube",
        "v3",
        developerKey=key,
        static_discovery=True,
        client_options={"api_endpoint": server.url + "/"},
        cache_discovery=False,
    )


def _all_pages(resource: Any, **parameters: Any) -> list[dict[str, Any]]:
    pages = []
    request = resource.list(**parameters)
    while request is not None:
        pages.append(request.execute())
        request = resource.list_next(request, pages[-1])
    return pages


def test_the_real_client_syncs_a_channel(server: StandIn, catalogue: Catalogue) -> None:
    with _client(server) as youtube:
        [channel] = youtube.channels().list(part="snippet,contentDetails", forHandle="testchannel").execute()["items"]
        assert channel["id"] == catalogue.channel_id
        assert channel["snippet"]["customUrl"] == "@testchannel"
        uploads = channel["contentDetails"]["relatedPlaylists"]["uploads"]
        pages = _all_pages(youtube.playlistItems(), part="contentDetails", playlistId=uploads, maxResults=50)
        ids = [item["contentDetails"]["videoId"] for page in pages for item in page["items"]]
        assert [len(page["items"]) for page in pages] == [50, 50, 19]
        assert ids == [f"video{n:06d}" for n in range(119, -1, -1) if n != 5]  # the unlisted video is not listed
        details = [
            item
            for start in range(0, len(ids), 50)
            for item in youtube.videos()
            .list(part="snippet,contentDetails", id=ids[start : start + 50])
            .execute()["items"]
        ]
    assert {item["id"] for item in details} == set(ids) - {"video000003", "video000004"}
    assert details[0]["contentDetails"]["duration"] == "PT5M19S"
    assert server.units == 1 + 3 + 3
    assert server.journal.count("playlistItems") == 3


def test_parts_are_honoured_and_ids_looked_up_once(server: StandIn) -> None:
    with _client(server) as youtube:
        ids = ["video000001", "nonexistent", "video000001", "video000003", "video000005"]
        answer = youtube.videos().list(part="status", id=",".join(ids)).execute()
    assert [set(item) for item in answer["items"]] == [{"kind", "etag", "id", "status"}] * 2
    assert [item["id"] for item in answer["items"]] == ["video000001", "video000005"]
    assert answer["items"][1]["status"]["privacyStatus"] == "unlisted"


def test_placeholders_lives_and_missing_sizes(server: StandIn, catalogue: Catalogue) -> None:
    with _client(server) as youtube:
        pages = _all_pages(
            youtube.playlistItems(),
            part="snippet,status,contentDetails",
            playlistId=catalogue.uploads_playlist_id,
            maxResults=50,
        )
        listed = {i["contentDetails"]["videoId"]: i for page in pages for i in page["items"]}
        ids = ["video000006", "video000007", "video000008", "video000009"]
        upcoming, live, small, fresh = (
            youtube.videos().list(part="snippet,contentDetails,liveStreamingDetails", id=ids).execute()["items"]
        )
    private, deleted = listed["video000003"], listed["video000004"]
    assert (private["snippet"]["title"], private["status"]["privacyStatus"]) == ("Private video", "private")
    assert (deleted["snippet"]["title"], deleted["snippet"]["thumbnails"]) == ("Deleted video", {})
    assert "videoPublishedAt" not in private["contentDetails"]
    assert upcoming["snippet"]["liveBroadcastContent"] == "upcoming"
    assert (upcoming["contentDetails"]["duration"], live["contentDetails"]["duration"]) == ("P0D", "P0D")
    assert "scheduledStartTime" in upcoming["liveStreamingDetails"]
    assert set(small["snippet"]["thumbnails"]) == {"default", "medium", "high"}
    assert "duration" not in fresh["contentDetails"]
    assert "tags" not in fresh["snippet"]


def test_the_client_parses_the_errors(server: StandIn, catalogue: Catalogue) -> None:
    uploads = catalogue.uploads_playlist_id

    def error(call: Any) -> tuple[int, str, dict[str, Any]]:
        with pytest.raises(HttpError) as caught:
            call.execute()
        body = json.loads(caught.value.content)["error"]
        assert caught.value.status_code == body["code"]
        assert caught.value.reason == body["message"]
        return body["code"], body["errors"][0]["reason"], body

    with _client(server) as youtube:
        items, videos = youtube.playlistItems(), youtube.videos()
        assert error(items.list(part="id", playlistId="UUnothing"))[:2] == (404, "playlistNotFound")
        assert error(items.list(part="id", playlistId=uploads, pageToken="guessed"))[:2] == (400, "invalidPageToken")
        assert error(items.list(part="id"))[:2] == (400, "missingRequiredParameter")
        assert error(items.list(part="id,nonsense", playlistId=uploads))[:2] == (400, "unknownPart")
        assert error(items.list(part="id", playlistId=uploads, maxResults=51))[:2] == (400, "invalidParameter")
        assert error(videos.list(part="id", id=[f"id{n}" for n in range(51)]))[:2] == (400, "invalidFilters")
        assert error(youtube.channels().list(part="id", mine=True))[:2] == (501, "notImplemented")
        server.quota.limit = server.units
        code, reason, body = error(videos.list(part="id", id="video000001"))
        assert (code, reason, body["errors"][0]["domain"]) == (403, "quotaExceeded", "youtube.quota")
    with _client(server, "wrong") as youtube:
        code, reason, body = error(youtube.videos().list(part="id", id="video000001"))
    assert (code, reason, body["status"]) == (400, "badRequest", "INVALID_ARGUMENT")
    assert body["details"][0]["reason"] == "API_KEY_INVALID"


async def test_the_key_is_read_from_header_or_query(catalogue: Catalogue) -> None:
    async with StandIn(catalogue, keys=[KEY]) as server, aiohttp.ClientSession() as session:
        url = f"{server.api_url}/channels"
        query = {"part": "id", "id": catalogue.channel_id}
        async with session.get(url, params=query, headers={"X-Goog-Api-Key": KEY}) as answer:
            assert answer.status == 200
        async with session.get(url, params={**query, "key": KEY}) as answer:
            assert answer.status == 200
        async with session.get(url, params=query) as answer:
            assert answer.status == 403
            assert (await answer.json())["error"]["status"] == "PERMISSION_DENIED"
        async with session.get(url, params={**query, "key": KEY, "chanel": "x"}) as answer:
            assert answer.status == 501
            assert "chanel" in (await answer.json())["error"]["message"]
        assert server.quota.used(KEY) == 3  # an invalid call is charged, a call without a key is not
        assert server.journal.requests("channels")[0].headers["x-goog-api-key"] == KEY


async def test_an_unknown_channel_has_no_items_and_an_empty_channel_no_playlist() -> None:
    empty = _channel(0)
    async with StandIn(empty) as server, aiohttp.ClientSession(headers={"X-Goog-Api-Key": "k"}) as session:
        async with session.get(f"{server.api_url}/channels?part=id&forHandle=@nobody") as answer:
            assert "items" not in await answer.json()
        async with session.get(
            f"{server.api_url}/playlistItems?part=id&playlistId={empty.uploads_playlist_id}"
        ) as answer:
            assert answer.status == 404


async def test_the_shorts_playlist_lists_shorts() -> None:
    channel = _channel(3)
    async with StandIn(channel) as server, aiohttp.ClientSession(headers={"X-Goog-Api-Key": "k"}) as session:

        async def listed(**more: str) -> list[str] | int:
            query = {
                "part": "contentDetails",
                "playlistId": channel.uploads_playlist_id.replace("UU", "UUSH", 1),
                **more,
            }
            async with session.get(f"{server.api_url}/playlistItems", params=query) as answer:
                if answer.status != 200:
                    return answer.status
                return [item["contentDetails"]["videoId"] for item in (await answer.json())["items"]]

        assert await listed() == 404
        first, second, _ = sorted(channel.videos)
        channel.change(first, is_short=True)
        channel.change(second, is_short=True, privacy="private")
        assert await listed() == await listed(videoId=first) == [first]
        assert await listed(videoId=second) == []


async def test_page_tokens_are_valid_for_one_channel_only() -> None:
    one, two = _channel(12, "one"), _channel(12, "two")
    async with StandIn(one, two) as server, aiohttp.ClientSession(headers={"X-Goog-Api-Key": "k"}) as session:

        async def page(catalogue: Catalogue, token: str = "") -> dict[str, Any]:
            query = {"part": "snippet", "playlistId": catalogue.uploads_playlist_id, "pageToken": token}
            async with session.get(f"{server.api_url}/playlistItems", params=query) as answer:
                body: dict[str, Any] = await answer.json()
                return body

        first = await page(one)
        assert len(first["items"]) == 5
        second = await page(one, first["nextPageToken"])
        assert [item["snippet"]["position"] for item in second["items"]] == [5, 6, 7, 8, 9]
        assert (await page(two, first["nextPageToken"]))["error"]["code"] == 400


def test_a_new_upload_shifts_the_pages(server: StandIn, catalogue: Catalogue) -> None:
    with _client(server) as youtube:
        items = youtube.playlistItems()
        request = items.list(part="snippet", playlistId=catalogue.uploads_playlist_id, maxResults=50)
        first = request.execute()
        catalogue.publish(_video(500))
        second = items.list_next(request, first).execute()
    assert second["items"][0]["id"] == first["items"][-1]["id"]


def _problems(value: Any, schema: dict[str, Any], schemas: dict[str, Any], where: str) -> list[str]:
    """The places where a JSON value differs from a schema of the discovery document."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kinds: dict[str, Any] = {
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": float,
        "array": list,
        "object": dict,
    }
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: {value!r} is none of {schema['enum']}"]
    if schema["type"] == "array":
        return [p for i, v in enumerate(value) for p in _problems(v, schema["items"], schemas, f"{where}[{i}]")]
    if schema["type"] == "object" and "properties" in schema:
        unknown = [f"{where}.{name} is not in the schema" for name in value if name not in schema["properties"]]
        known = {n: v for n, v in value.items() if n in schema["properties"]}
        return unknown + [
            p for n, v in known.items() for p in _problems(v, schema["properties"][n], schemas, f"{where}.{n}")
        ]
    return []


def _answers(server: StandIn, catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """One answer of each method, with every part that a key may request."""
    with _client(server) as youtube:
        channel_parts = "id,snippet,contentDetails,statistics,status"
        video_parts = "id,snippet,contentDetails,status,statistics,player,liveStreamingDetails"
        uploads = {"playlistId": catalogue.uploads_playlist_id, "maxResults": 50}
        pages = _all_pages(youtube.playlistItems(), part="id,snippet,contentDetails,status", **uploads)
        return {
            "ChannelListResponse": youtube.channels().list(part=channel_parts, id=catalogue.channel_id).execute(),
            "PlaylistItemListResponse": {**pages[1], "items": [i for page in pages for i in page["items"]]},
            "VideoListResponse": youtube.videos()
            .list(part=video_parts, id=[f"video{n:06d}" for n in range(40)])
            .execute(),
        }


def test_every_field_is_in_the_published_schema(server: StandIn, catalogue: Catalogue) -> None:
    documents = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
    schemas = json.loads((documents / "youtube.v3.json").read_text(encoding="utf-8"))["schemas"]
    for name, answer in _answers(server, catalogue).items():
        problems = _problems(answer, schemas[name], schemas, name)
        # The real API's value for deleted videos is missing from its own schema.
        assert [p for p in problems if "privacyStatusUnspecified" not in p] == []
        assert len(problems) == (1 if name == "PlaylistItemListResponse" else 0)


def _keys(value: Any, prefix: str = "") -> set[str]:
    if isinstance(value, dict):
        return {p for n, v in value.items() for p in {f"{prefix}{n}"} | _keys(v, f"{prefix}{n}.")}
    return set()


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the recorded responses are not available")
@pytest.mark.parametrize(
    ("sample", "name", "optional"),
    [
        ("info.json", "ChannelListResponse", {"snippet.country"}),
        ("playlist_items_paged_1.json", "PlaylistItemListResponse", set()),
        ("playlist_items_paged_2.json", "PlaylistItemListResponse", set()),
        ("videos_info_single.json", "VideoListResponse", set()),
        ("videos_info_multi.json", "VideoListResponse", set()),
    ],
)
def test_every_recorded_field_of_the_real_api_is_served(
    server: StandIn, catalogue: Catalogue, sample: str, name: str, optional: set[str]
) -> None:
    recorded = json.loads((SAMPLES / sample).read_text(encoding="utf-8"))
    served = _answers(server, catalogue)[name]
    assert set(recorded) - {"nextPageToken", "prevPageToken"} <= set(served)
    offered = set().union(*(_keys(item) for item in served["items"]))
    for item in recorded["items"]:
        assert _keys(item) - offered == optional & _keys(item)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "P0D"), (59, "PT59S"), (180, "PT3M"), (3600, "PT1H"), (93784, "P1DT2H3M4S"), (86400, "P1D")],
)
def test_iso_duration(seconds: int, text: str) -> None:
    assert iso_duration(seconds) == text
