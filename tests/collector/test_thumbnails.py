"""The allowed sources of thumbnails, and the choice among several sizes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from collector.thumbnails import THUMBNAIL_CHOICES, Thumbnails
from collector.thumbnails.fetch import SIZES, candidates, whose_host
from store.youtube import FailedPicture, FetchedPicture, PictureJob, PictureOutcome
from tests.collector.channels import channel, hasty_http
from tests.standin import Fault, Faults, StandIn
from thumbtune.standin.pictures import placeholder


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with StandIn(channel(3)) as running:
        yield running


async def fetch(server: StandIn, url: str, hosts: tuple[str, ...] | None = None) -> PictureOutcome:
    async with hasty_http() as http:
        thumbnails = Thumbnails(http, (server.thumbnail_host,) if hosts is None else hosts)
        try:
            job = PictureJob("video000000", {"high": {"url": url}}, None, None, None)
            outcome, _ = await thumbnails.fetch(job, "high")
            return outcome
        finally:
            thumbnails.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://i.ytimg.com/vi/x/hqdefault.jpg",
        "https://i9.ytimg.com:443/vi/x/hqdefault.jpg",
        "https://yt3.ggpht.com/x",
        "https://I.YTIMG.COM/x",
        "http://127.0.0.1:8080/x",
        "http://pictures.example/x",
        "https://pictures.example:9/x",
        "http://[::1]:8080/x",
    ],
)
def test_allowed_hosts(url: str) -> None:
    assert whose_host(url, ("127.0.0.1:8080", "pictures.example", "[::1]:8080"))


@pytest.mark.parametrize(
    "url",
    [
        "http://i.ytimg.com/vi/x/hqdefault.jpg",
        "https://i.ytimg.com:8443/x",
        "https://ytimg.com.example.com/x",
        "https://evilytimg.com/x",
        "https://example.com/i.ytimg.com",
        "https://i.ytimg.com@example.com/x",
        "https://user:pass@i.ytimg.com/x",
        "https://example.com\\.ytimg.com/x",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "ftp://i.ytimg.com/x",
        "//i.ytimg.com/x",
        "i.ytimg.com/x",
        "http://127.0.0.1/x",
        "http://127.0.0.1:8081/x",
        "http://127.1:8080/x",
        "http://2130706433:8080/x",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/x",
        "http://[::1]/x",
        "http://localhost:8080/x",
        "https://[bad/x",
        "https://i.ytimg.com:port/x",
        "https://evil.com%2f.ytimg.com/x",
        "https://evil.com%00.ytimg.com/x",
        "https://evil.com;.ytimg.com/x",
        "https://evil.com\t.ytimg.com/x",
        "https://i.ytimg.com/\x00",
        "https://i.ytimg.com/a b",
        "https://i.ytimg.com/\u202e",
        "https://ｉ.ytimg.com/x",
        "https://i。ytimg。com/x",
        "https://127.0.0.1%eth0/x",
        "http://0x7f.0.0.1:8080/x",
        "http://0177.0.0.1:8080/x",
        "http://[::ffff:127.0.0.1]:8080/x",
        "http://192.168.1.1/x",
        "http://[fe80::1]/x",
        "gopher://127.0.0.1:8080/x",
        "",
    ],
)
def test_refused_hosts(url: str) -> None:
    assert not whose_host(url, ("127.0.0.1:8080",))


@pytest.mark.slow
@given(st.text())
def test_any_text_is_checked_without_an_error(url: str) -> None:
    whose_host(url, ("127.0.0.1:8080",))


URLS = st.from_regex(
    r"https?://[a-z0-9.%@:\[\]/\\;#?\t ]{0,12}[.@:/%]?(i\.)?ytimg\.com[.:%@/\\#?;a-z0-9]{0,8}", fullmatch=True
)


@pytest.mark.slow
@given(URLS | st.text())
@settings(max_examples=500, derandomize=True, deadline=None)
def test_allowed_urls_are_parsed_alike_by_the_client(url: str) -> None:
    if whose_host(url, ()):
        read = URL(url)
        assert (read.scheme, read.port) == ("https", 443)
        assert str(read.host).rstrip(".").endswith((".ytimg.com", ".ggpht.com"))


async def test_redirects_to_allowed_hosts_are_followed(server: StandIn) -> None:
    picture = f"{server.url}/vi/video000001/hqdefault.jpg"
    server.faults = Faults([Fault("redirect", path="/vi/video000000/", location="/vi/video000001/hqdefault.jpg")])
    outcome = await fetch(server, f"{server.url}/vi/video000000/hqdefault.jpg")
    assert isinstance(outcome, FetchedPicture)
    assert outcome.data == server.catalogues[0].videos["video000001"].picture()
    assert outcome.url != picture  # the next conditional request uses the URL that the API names


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:1/x",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://example.com/x.jpg",
        "//example.com/x.jpg",
        "http://i.ytimg.com/x",
        "http://[::1]:80/x",
        "http://10.0.0.1/x",
        "data:image/png;base64,AAAA",
        "http://2130706433/x",
    ],
)
async def test_redirects_to_other_hosts_are_not_followed(server: StandIn, location: str) -> None:
    server.faults = Faults([Fault("redirect", path="/vi/", location=location)], most_in_a_row=None)
    outcome = await fetch(server, f"{server.url}/vi/video000000/hqdefault.jpg")
    assert isinstance(outcome, FailedPicture)
    assert "not an allowed thumbnail host" in outcome.reason
    assert server.journal.count() == 1


async def test_redirects_are_limited(server: StandIn) -> None:
    server.faults = Faults([Fault("redirect", path="/vi/", location="/vi/video000000/x.jpg")], most_in_a_row=None)
    outcome = await fetch(server, f"{server.url}/vi/video000000/hqdefault.jpg")
    assert isinstance(outcome, FailedPicture)
    assert "redirects" in outcome.reason
    assert server.journal.count() == 6


async def test_a_redirect_to_an_invalid_url_is_a_reason(server: StandIn) -> None:
    server.faults = Faults([Fault("redirect", path="/vi/", location="http://[bad/x")], most_in_a_row=None)
    outcome = await fetch(server, f"{server.url}/vi/video000000/hqdefault.jpg")
    assert isinstance(outcome, FailedPicture)
    assert outcome.reason == "redirected to an invalid URL"


async def test_a_host_that_is_not_allowed_gets_no_request(server: StandIn) -> None:
    outcome = await fetch(server, f"{server.url}/vi/video000000/hqdefault.jpg", hosts=())
    assert isinstance(outcome, FailedPicture)
    assert server.journal.count() == 0


ALL = {size: {"url": size} for size in SIZES}


@pytest.mark.parametrize(
    ("preferred", "order"),
    [
        ("high", ["high", "medium", "default", "standard", "maxres", "fhd", "qhd", "uhd"]),
        ("maxres", ["maxres", "standard", "high", "medium", "default", "fhd", "qhd", "uhd"]),
        ("best", ["uhd", "qhd", "fhd", "maxres", "standard", "high", "medium", "default"]),
        ("default", ["default", "medium", "high", "standard", "maxres", "fhd", "qhd", "uhd"]),
    ],
)
def test_the_order_in_which_sizes_are_tried(preferred: str, order: list[str]) -> None:
    assert [size.url for size in candidates(ALL, preferred)] == order


@given(
    st.dictionaries(
        st.sampled_from([*SIZES, "other"]), st.none() | st.text() | st.fixed_dictionaries({"url": st.text()})
    ),
    st.sampled_from(THUMBNAIL_CHOICES),
)
def test_each_url_of_the_api_is_a_candidate_once(thumbnails: dict[str, object], preferred: str) -> None:
    urls = [size.url for size in candidates(thumbnails, preferred)]
    assert len(urls) == len(set(urls))
    assert all(urls)


async def test_a_reason_is_stored_with_its_url(server: StandIn) -> None:
    server.faults = Faults([Fault("body", path="/vi/video000000/", body=b"GIF89a")])
    url = f"{server.url}/vi/video000000/hqdefault.jpg"
    outcome = await fetch(server, url)
    assert isinstance(outcome, FailedPicture)
    assert outcome.url == url


async def test_validators_are_sent_only_to_the_url_that_they_came_from(server: StandIn) -> None:
    url = f"{server.url}/vi/video000000/hqdefault.jpg"
    async with hasty_http() as http:
        thumbnails = Thumbnails(http, (server.thumbnail_host,))
        for came_from in (url, f"{server.url}/vi/video000000/mqdefault.jpg"):
            job = PictureJob("video000000", {"high": {"url": url}}, came_from, '"tag"', None)
            await thumbnails.fetch(job, "high")
        thumbnails.close()
    assert ["if-none-match" in request.headers for request in server.journal.requests()] == [True, False]


async def test_a_video_without_thumbnail_urls_is_a_reason(server: StandIn) -> None:
    async with hasty_http() as http:
        thumbnails = Thumbnails(http, ())
        outcome, unreachable = await thumbnails.fetch(PictureJob("v", {}, None, None, None), "high")
        thumbnails.close()
    assert isinstance(outcome, FailedPicture)
    assert outcome.url is None
    assert not unreachable


def test_each_video_causes_only_a_few_requests() -> None:
    named = {f"size {n}": {"url": f"https://i.ytimg.com/{n}"} for n in range(1_000)}
    assert len(candidates({**ALL, **named}, "high")) == 10
    assert candidates({"high": {"url": "https://i.ytimg.com/" + "x" * 2_000}}, "high") == []


FILES = {
    "maxres": ("maxresdefault.jpg", 1280, 720),
    "high": ("hqdefault.jpg", 480, 360),
    "default": ("default.jpg", 120, 90),
}
PLACEHOLDER = Fault("body", path="", body=placeholder(), content_type="image/jpeg")


async def fetch_best(
    server: StandIn, *faults: Fault, only: Sequence[str] = tuple(FILES)
) -> tuple[PictureOutcome, bool]:
    """Fetch the best size of a video that is announced in each size of `only`."""
    server.faults = Faults([*faults], most_in_a_row=None)
    announced = {
        size: {"url": f"{server.url}/vi/video000000/{file}", "width": width, "height": height}
        for size, (file, width, height) in FILES.items()
        if size in only
    }
    async with hasty_http() as http:
        thumbnails = Thumbnails(http, (server.thumbnail_host,))
        try:
            return await thumbnails.fetch(PictureJob("video000000", announced, None, None, None), "best")
        finally:
            thumbnails.close()


@pytest.mark.parametrize(
    "fault",
    [
        PLACEHOLDER,
        Fault("body", status=403, body=b"no", content_type="text/plain"),
        Fault("body", body=b"\xff\xd8damaged", content_type="image/jpeg"),
        Fault("body", body=b"", content_type="image/jpeg"),
        Fault("body", body=bytes(9 << 20), content_type="image/jpeg"),
        Fault("status", status=404),
        Fault("status", status=503),
        Fault("html"),
        Fault("redirect", location="https://example.com/x.jpg"),
    ],
    ids=["placeholder", "forbidden", "damaged", "empty", "too large", "missing", "unavailable", "html", "elsewhere"],
)
async def test_after_any_failure_of_a_size_the_next_size_is_fetched(server: StandIn, fault: Fault) -> None:
    outcome, unreachable = await fetch_best(server, replace(fault, path="/vi/video000000/maxresdefault.jpg"))
    assert isinstance(outcome, FetchedPicture)
    assert (outcome.width, outcome.height) == (480, 360)
    assert outcome.url.endswith("/hqdefault.jpg")
    assert not unreachable


async def test_a_placeholder_is_refused_for_every_size(server: StandIn) -> None:
    outcome, unreachable = await fetch_best(server, replace(PLACEHOLDER, path="/vi/"))
    assert isinstance(outcome, FailedPicture)
    assert not unreachable


async def test_a_small_thumbnail_of_a_small_size_is_accepted(server: StandIn) -> None:
    outcome, _ = await fetch_best(server, only=["default"])
    assert isinstance(outcome, FetchedPicture)
    assert (outcome.width, outcome.height) == (120, 90)


async def test_an_unreachable_host_is_not_asked_for_every_size(server: StandIn) -> None:
    outcome, unreachable = await fetch_best(server, Fault("status", path="/vi/", status=503))
    assert isinstance(outcome, FailedPicture)
    assert unreachable
    assert {request.path.rpartition("/")[2] for request in server.journal.requests()} == {
        "maxresdefault.jpg",
        "hqdefault.jpg",
    }


async def test_of_several_failures_a_transient_failure_is_the_reason(server: StandIn) -> None:
    maxres, high = (f"/vi/video000000/{FILES[size][0]}" for size in ("maxres", "high"))
    forbidden = Fault("status", path=maxres, status=403)
    outcome, unreachable = await fetch_best(
        server, forbidden, Fault("status", path=high, status=503), only=["maxres", "high"]
    )
    assert isinstance(outcome, FailedPicture)
    assert outcome.url == f"{server.url}{high}"
    assert unreachable


async def test_a_transient_failure_does_not_replace_a_stored_thumbnail_by_another_size(server: StandIn) -> None:
    path = f"/vi/video000000/{FILES['maxres'][0]}"
    server.faults = Faults([Fault("status", path=path, status=503)], most_in_a_row=None)
    announced = {
        size: {"url": f"{server.url}/vi/video000000/{file}", "width": width, "height": height}
        for size, (file, width, height) in FILES.items()
    }
    async with hasty_http() as http:
        thumbnails = Thumbnails(http, (server.thumbnail_host,))
        job = PictureJob("video000000", announced, f"{server.url}{path}", '"tag"', None)
        outcome, unreachable = await thumbnails.fetch(job, "best")
        thumbnails.close()
    assert isinstance(outcome, FailedPicture)
    assert unreachable
