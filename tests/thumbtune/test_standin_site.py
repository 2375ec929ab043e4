"""The stand-in's feed, pictures and faults over real connections, and its two ways of running."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from PIL import Image

from tests.standin import Fault, Faults, StandIn
from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from
from thumbtune.standin.errors import StandInError

START = datetime(2020, 1, 1, tzinfo=UTC)
NAMES = {
    "": "http://www.w3.org/2005/Atom",
    "yt": "http://www.youtube.com/xml/schemas/2015",
    "media": "http://search.yahoo.com/mrss/",
}


def _letterboxed(colour: tuple[int, int, int]) -> Callable[[], bytes]:
    """A 480x360 picture like YouTube's `high`: black bars above and below a 480x270 picture."""
    picture = Image.new("RGB", (480, 360))
    picture.paste(colour, (0, 45, 480, 315))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=95)
    return buffer.getvalue


def _channel(videos: int) -> Catalogue:
    catalogue = Catalogue(channel_id_from("site"), "@site", "A <channel> & more")
    red = _letterboxed((200, 20, 20))
    catalogue.publish(
        *(StandInVideo(f"video{n:06d}", f"Title {n}", START + timedelta(days=n), 300, red) for n in range(videos))
    )
    return catalogue


@pytest.fixture
def catalogue() -> Catalogue:
    return _channel(20)


def _url(server: StandIn, file: str, number: int = 1) -> str:
    return f"http://{server.thumbnail_host}/vi/video{number:06d}/{file}"


async def test_the_feed_has_the_newest_fifteen_public_videos(catalogue: Catalogue) -> None:
    catalogue.change("video000018", privacy="private")
    catalogue.delete("video000017")
    catalogue.change("video000019", title="\x1b[31m<b>&\x00", description="several\nlines")
    async with StandIn(catalogue) as server, aiohttp.ClientSession() as session:
        feed = {"channel_id": catalogue.channel_id}
        async with session.get(server.feed_url, params=feed) as answer:
            assert answer.content_type == "text/xml"
            root = ET.fromstring(await answer.text())
        entries = root.findall("entry", NAMES)
        ids = [entry.findtext("yt:videoId", None, NAMES) for entry in entries]
        assert ids == ["video000019", *(f"video{n:06d}" for n in range(16, 2, -1))]
        assert entries[0].findtext("title", None, NAMES) == "\N{REPLACEMENT CHARACTER}[31m<b>&\N{REPLACEMENT CHARACTER}"
        assert entries[0].findtext("media:group/media:description", None, NAMES) == "several\nlines"
        assert entries[0].findtext("yt:channelId", None, NAMES) == catalogue.channel_id
        assert entries[0].findtext("published", None, NAMES) == "2020-01-20T00:00:00+00:00"
        assert root.findtext("title", None, NAMES) == "A <channel> & more"
        server.feed_lag = 2
        async with session.get(server.feed_url, params=feed) as answer:
            root = ET.fromstring(await answer.text())
        assert root.findtext("entry/yt:videoId", None, NAMES) == "video000015"
        async with session.get(server.feed_url, params={"channel_id": "UCnothing"}) as answer:
            assert answer.status == 404
        assert server.units == 0


async def test_thumbnails_have_the_documented_sizes_and_16_9_sizes_no_bars(catalogue: Catalogue) -> None:
    sizes = {
        "default.jpg": (120, 90),
        "mqdefault.jpg": (320, 180),
        "hqdefault.jpg": (480, 360),
        "sddefault.jpg": (640, 480),
        "maxresdefault.jpg": (1280, 720),
    }
    async with StandIn(catalogue) as server, aiohttp.ClientSession() as session:
        for file, size in sizes.items():
            async with session.get(_url(server, file)) as answer:
                assert answer.headers["Content-Type"] == "image/jpeg"
                picture = Image.open(io.BytesIO(await answer.read()))
            assert picture.size == size
            corner = picture.getpixel((5, 3))
            assert isinstance(corner, tuple)
            assert (corner[0] > 150) == (size[0] * 9 == size[1] * 16)
        async with session.get(_url(server, "hqdefault.jpg")) as answer:
            assert await answer.read() == catalogue.videos["video000001"].picture()


async def test_the_etag_of_a_thumbnail_depends_on_its_content_only(catalogue: Catalogue) -> None:
    async with StandIn(catalogue) as server, aiohttp.ClientSession() as session:

        async def get(**headers: str) -> aiohttp.ClientResponse:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            async with session.get(_url(server, "mqdefault.jpg"), headers=names) as answer:
                await answer.read()
                return answer

        first = await get()
        etag, modified = first.headers["ETag"], first.headers["Last-Modified"]
        assert (await get(If_None_Match=etag)).status == 304
        assert (await get(If_Modified_Since=modified)).status == 304
        assert (await get(If_None_Match='"other"', If_Modified_Since=modified)).status == 200
        catalogue.change("video000001", title="Another title")
        assert (await get(If_None_Match=etag)).status == 304
        catalogue.change("video000001", picture=_letterboxed((20, 200, 20)))
        assert (await get(If_Modified_Since=modified)).status == 200
        changed = await get(If_None_Match=etag)
        assert changed.status == 200
        assert changed.headers["ETag"] != etag
        assert server.journal.count("picture", 304) == 3


async def test_missing_thumbnails_are_404_with_a_grey_placeholder(catalogue: Catalogue) -> None:
    catalogue.change("video000001", missing_sizes=frozenset({"maxres"}))
    catalogue.change("video000002", privacy="private")
    catalogue.delete("video000003")
    async with StandIn(catalogue) as server, aiohttp.ClientSession() as session:
        for url in (
            _url(server, "maxresdefault.jpg", 1),
            _url(server, "hqdefault.jpg", 2),
            _url(server, "hqdefault.jpg", 3),
            _url(server, "hqdefault.jpg", 999),
            _url(server, "nonsense.jpg", 4),
        ):
            async with session.get(url) as answer:
                assert answer.status == 404
                assert Image.open(io.BytesIO(await answer.read())).size == (120, 90)


async def test_undecodable_thumbnails_are_served_unchanged(catalogue: Catalogue) -> None:
    catalogue.change("video000001", picture=lambda: b"no picture")
    async with StandIn(catalogue) as server, aiohttp.ClientSession() as session:
        for file in ("hqdefault.jpg", "maxresdefault.jpg"):
            async with session.get(_url(server, file)) as answer:
                assert await answer.read() == b"no picture"


async def _outcome(session: aiohttp.ClientSession, url: str) -> Any:
    """The result for a client: the type of its error, or the status."""
    try:
        async with session.get(url, allow_redirects=False) as answer:
            body = await answer.read()
            try:
                json.loads(body)
            except ValueError:
                return answer.status, answer.content_type, "no JSON"
            return answer.status, answer.content_type, dict(answer.headers).get("Retry-After")
    except aiohttp.ClientPayloadError:
        return "cut"


@pytest.mark.parametrize(
    ("fault", "seen", "units"),
    [
        (Fault("status", status=500), (500, "application/json", None), 0),
        (Fault("status", status=429, retry_after=7), (429, "application/json", "7"), 0),
        (Fault("html"), (200, "text/html", "no JSON"), 0),
        (Fault("body", body=b"[]", content_type="application/json"), (200, "application/json", None), 0),
        (Fault("redirect", location="http://127.0.0.1:1/"), (302, "application/octet-stream", "no JSON"), 0),
        (Fault("cut"), "cut", 1),
        (Fault("cut_json"), (200, "application/json", "no JSON"), 1),
        (Fault("slow", delay_s=0.01), (200, "application/json", None), 1),
        (Fault("hang", delay_s=0.01), (200, "application/json", None), 1),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else "",
)
async def test_each_fault_has_the_expected_effect_on_a_client(
    catalogue: Catalogue, fault: Fault, seen: Any, units: int
) -> None:
    async with StandIn(catalogue, faults=Faults([fault])) as server, aiohttp.ClientSession() as session:
        url = f"{server.api_url}/videos?part=snippet&id=video000001&key=k"
        assert await _outcome(session, url) == seen
        assert server.units == units
        assert server.journal.requests()[0].fault == fault.kind
        assert await _outcome(session, url) == (200, "application/json", None)  # a retry always succeeds
        assert server.journal.requests()[1].fault is None


async def test_a_reset_is_a_tcp_reset(catalogue: Catalogue) -> None:
    # With a plain socket: aiohttp's client resends a GET once if its connection is lost.
    async with StandIn(catalogue, faults=Faults([Fault("reset", times=1)])) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /vi/video000001/hqdefault.jpg HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        [logged] = server.journal.requests()
        assert (logged.status, logged.fault) == (None, "reset")


async def test_a_hanging_response_ends_on_release_or_disconnect(catalogue: Catalogue) -> None:
    faults = Faults([Fault("hang", path="/feeds/", delay_s=60)], most_in_a_row=None)
    async with StandIn(catalogue, faults=faults) as server, aiohttp.ClientSession() as session:
        url = f"{server.feed_url}?channel_id={catalogue.channel_id}"
        with pytest.raises(TimeoutError):
            async with session.get(url, timeout=aiohttp.ClientTimeout(total=0.05)):
                pass
        async with asyncio.timeout(10):
            while not server.journal.count("feed"):  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert server.journal.requests("feed")[0].status is None
        waiting = asyncio.create_task(_outcome(session, url))
        server.release()
        async with asyncio.timeout(10):
            assert (await waiting)[0] == 200


def test_fault_rules_match_path_query_turn_and_share() -> None:
    faults = Faults(
        [
            Fault("reset", path="/feeds/", times=2, after=1),
            Fault("status", status=503, path="/youtube/", query={"pageToken": "t"}),
        ]
    )
    feed = [faults.decide("/feeds/videos.xml", {}) for _ in range(5)]
    assert [f.kind if f else None for f in feed] == [None, "reset", "reset", None, None]
    assert faults.decide("/youtube/v3/playlistItems", {}) is None
    page = [faults.decide("/youtube/v3/playlistItems", {"pageToken": "t", "key": str(n)}) for n in range(4)]
    assert [bool(f) for f in page] == [True, False, True, False]
    assert faults.made == Counter({"reset": 2, "status": 2})


def test_fault_shares_depend_on_the_seed_and_not_on_the_order() -> None:
    rules = [Fault("status", status=500, share=0.1), Fault("reset", share=0.05)]
    paths = [f"/vi/{n}/hqdefault.jpg" for n in range(4000)]

    def drawn(order: list[str], seed: int = 0) -> dict[str, str | None]:
        plan = Faults(rules, seed)
        return {path: fault.kind if (fault := plan.decide(path, {})) else None for path in order}

    seen = drawn(paths)
    counts = Counter(seen.values())
    assert 320 < counts["status"] < 480
    assert 140 < counts["reset"] < 260
    assert drawn(paths[::-1]) == seen
    assert drawn(paths, seed=1) != seen


def test_no_request_fails_more_often_in_a_row_than_allowed() -> None:
    twice = Faults([Fault("reset")], most_in_a_row=2)
    assert [bool(twice.decide("/", {})) for _ in range(7)] == [True, True, False, True, True, False, True]
    for_good = Faults([Fault("reset", after=3)], most_in_a_row=None)
    assert [bool(for_good.decide("/", {})) for _ in range(6)] == [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "status"}, "needs a status"),
        ({"kind": "redirect"}, "needs a location"),
        ({"kind": "reset", "share": 1.5}, "1.5"),
        ({"kind": "hang", "delay_s": 3600}, "3600"),
        ({"kind": "cut", "times": 0}, "times at least 1"),
    ],
)
def test_impossible_faults_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fault(**wrong)


def test_a_thread_serves_while_another_changes_the_channel() -> None:
    catalogue = _channel(3)
    with StandIn(catalogue) as server:
        url = f"{server.api_url}/playlistItems?part=snippet&playlistId={catalogue.uploads_playlist_id}&key=k"
        red = catalogue.videos["video000001"].picture
        days = timedelta(days=1)

        def publish() -> None:
            for n in range(10, 210):
                catalogue.publish(StandInVideo(f"video{n:06d}", "x", START + n * days, 300, red))
                catalogue.change(f"video{n:06d}", title="y")

        writer = threading.Thread(target=publish)
        writer.start()
        totals = []
        for _ in range(20):
            with urllib.request.urlopen(url) as answer:
                totals.append(json.load(answer)["pageInfo"]["totalResults"])
        writer.join()
        with urllib.request.urlopen(url) as answer:
            assert json.load(answer)["pageInfo"]["totalResults"] == 203
    assert totals == sorted(totals)
    assert [t.name for t in threading.enumerate() if t.name == "stand-in"] == []


def test_the_environment_and_wrong_usage(catalogue: Catalogue) -> None:
    server = StandIn(catalogue)
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.url
    with server:
        assert server.environment("secret") == {
            "YOUTUBE_API_KEY": "secret",
            "THUMBTUNE_API_URL": f"http://127.0.0.1:{server.port}/youtube/v3",
            "THUMBTUNE_FEED_URL": f"http://127.0.0.1:{server.port}/feeds/videos.xml",
            "THUMBTUNE_THUMBNAIL_HOSTS": f"127.0.0.1:{server.port}",
        }
        with pytest.raises(StandInError, match=f":{server.port} "):
            StandIn(catalogue, port=server.port).__enter__()
    with pytest.raises(ValueError, match="different ids"):
        StandIn(catalogue, catalogue)


async def test_the_journal_counts_everything_and_keeps_the_newest(catalogue: Catalogue) -> None:
    async with StandIn(catalogue) as server, aiohttp.ClientSession() as session:
        for number in range(3):
            async with session.get(_url(server, "hqdefault.jpg", number)) as answer:
                await answer.read()
        async with session.get(f"{server.url}/nothing/here") as answer:
            assert answer.status == 404
        assert server.journal.count() == 4
        assert server.journal.count("picture", 200) == 3
        assert server.journal.count(status=404) == 1
        assert [r.path[-1] for r in server.journal.requests("picture")] == ["g"] * 3
        server.journal.clear()
        assert server.journal.count() == 0
        assert server.journal.requests() == []
