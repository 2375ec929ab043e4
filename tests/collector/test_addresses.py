"""Host names that resolve to the user's own network: untrusted URLs never connect to them."""

from __future__ import annotations

import socket
import traceback
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from collector.errors import BadSetting, NetworkError
from collector.http import Answer, Request
from collector.http.addresses import NotPublic, PublicOnly, is_public
from collector.thumbnails import Thumbnails
from store.youtube import FailedPicture, PictureJob
from tests.collector.channels import channel, hasty_http
from tests.standin import StandIn

PRIVATE = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "192.0.0.1",
    "192.0.0.8",
    "192.0.0.170",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:808:808::80ff:fffe",  # Teredo: a public server, and a client at 127.0.0.1
    "2001:0:7f00:1::f7f7:f7f7",  # a private server, and a public client
    "64:ff9b:1::808:808",  # NAT64 of the own network
    "100::1",
    "100:0:0:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:db8::1",
    "2001:4860::5efe:10.0.0.1",  # ISATAP, with and without the flag for a public IPv4 address
    "2001:4860::200:5efe:169.254.169.254",
    "::ffff:0:8.8.8.8",
    "::8.8.8.8",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "",
    "localhost",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "142.250.0.1",
        "2001:4860:4860::8888",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
        "2001:0:808:808::f7f7:f7f7",
        "2001:4860::200:5efe:8.8.8.8",
        "2002:808:808::1",
        "2001:20::1",
        "2620:4f:8000::1",
        "2a00:1450::1",
        "3ffe::1",
        "192.0.0.9",
        "192.31.196.1",
        "198.20.0.1",
    ],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


class Leading(AbstractResolver):
    """A hostile name server: each look-up returns its next answer; after the last answer, that answer again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with StandIn(channel(1)) as running:
        yield running


def named(server: StandIn, *, public_only: bool) -> Request:
    """The URL of a thumbnail on the server, with another host name."""
    port = server.url.rpartition(":")[2]
    return Request(f"http://pictures.example:{port}/vi/video000000/hqdefault.jpg", public_only=public_only)


def status(answer: Answer) -> int:
    return answer.status


async def test_a_host_with_a_private_address_is_used_only_if_the_user_allowed_it(server: StandIn) -> None:
    async with hasty_http(resolver=Leading(["127.0.0.1"])) as http:
        assert await http.get(named(server, public_only=False), status) == 200
        assert server.journal.count() == 1
        with pytest.raises(NetworkError, match="no public address"):
            await http.get(named(server, public_only=True), status)
    assert server.journal.count() == 1


@pytest.mark.parametrize("address", [address for address in PRIVATE if address not in ("", "localhost")])
async def test_a_youtube_host_with_a_private_address_is_a_reason(address: str) -> None:
    async with hasty_http(resolver=Leading([address])) as http:
        thumbnails = Thumbnails(http, ())
        job = PictureJob("v", {"high": {"url": "https://i.ytimg.com/vi/v/hqdefault.jpg"}}, None, None, None)
        outcome, unreachable = await thumbnails.fetch(job, "high")
        thumbnails.close()
        assert http.requests == 0
    assert isinstance(outcome, FailedPicture)
    assert "no public address" in outcome.reason
    assert unreachable


async def test_only_the_public_addresses_of_a_host_are_tried() -> None:
    guard = PublicOnly(Leading(["127.0.0.1", "8.8.8.8", "::1", "2001:4860:4860::8888"]))
    assert [found["host"] for found in await guard.resolve("i.ytimg.com")] == ["8.8.8.8", "2001:4860:4860::8888"]


async def test_every_lookup_of_a_host_is_checked(server: StandIn) -> None:
    # DNS rebinding: a public answer for a check, then a private answer for the connection. Each answer is checked.
    names = Leading(["192.0.2.1"], ["8.8.8.8"], ["127.0.0.1"])
    guard = PublicOnly(names)
    for leads in (False, True, False):
        if leads:
            assert [found["host"] for found in await guard.resolve("i.ytimg.com")] == ["8.8.8.8"]
        else:
            with pytest.raises(NotPublic):
                await guard.resolve("i.ytimg.com")
    assert names.asked == 3
    async with hasty_http(resolver=Leading(["127.0.0.1"])) as http:
        # Unrestricted requests do not share connections with requests that are restricted to public addresses.
        await http.get(named(server, public_only=False), status)
        with pytest.raises(NetworkError, match="no public address"):
            await http.get(named(server, public_only=True), status)
    assert server.journal.count() == 1


async def test_a_proxy_may_have_any_address(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    port = server.url.rpartition(":")[2]
    monkeypatch.setenv("http_proxy", f"http://proxy.example:{port}")
    monkeypatch.setenv("no_proxy", "[::1")
    async with hasty_http(resolver=Leading(["127.0.0.1"])) as http:
        request = Request("http://pictures.example/vi/video000000/hqdefault.jpg", public_only=True)
        # The stand-in is not a proxy, but the test only needs to see that it was asked.
        assert isinstance(await http.get(request, status), int)
    assert server.journal.count() == 1


@pytest.mark.parametrize(
    "proxy", ["http://someone:secret@proxy.example:99999", "socks5://someone:secret@proxy.example", "secret:3128", "//"]
)
async def test_an_unusable_proxy_is_reported_without_its_password(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    async with hasty_http() as http:
        with pytest.raises(BadSetting, match="^http_proxy ") as caught:
            await http.get(named(server, public_only=False), status)
    assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert server.journal.count() == 0


async def test_a_proxy_gets_the_password_of_its_url(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://someone:secret@127.0.0.1:{server.port}")
    async with hasty_http() as http:
        await http.get(Request("http://pictures.example/vi/video000000/hqdefault.jpg"), status)
    (request,) = server.journal.requests()
    assert request.headers["proxy-authorization"] == "Basic " + b64encode(b"someone:secret").decode()


async def test_no_proxy_is_respected_and_netrc_is_ignored(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    async with hasty_http() as http:
        await http.get(Request(f"{server.url}/vi/video000000/hqdefault.jpg"), status)
    (request,) = server.journal.requests()
    assert "authorization" not in request.headers
