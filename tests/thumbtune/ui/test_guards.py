"""Which requests are answered (hosts, origins, tokens), and the headers of every response."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from collector.errors import BadSetting
from collector.http import Listen, parse_listen
from tests.thumbtune.ui.serving import TOKEN, Client, parsed, serving
from thumbtune.cli import App, main
from thumbtune.commands.ui import page_settings
from thumbtune.ui.guards import HEADERS
from thumbtune.ui.server import check_settings
from thumbtune.ui.settings import CantServe, PageSettings, host_name

FORM = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
PATHS = (
    "/",
    "/match",
    "/runs",
    "/syncs",
    "/login",
    "/static/page.js",
    "/static/page.css",
    "/healthz",
    "/none",
    "/picture/x",
)


async def test_every_response_has_the_security_headers(client: Client) -> None:
    for path in PATHS:
        answer = await client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, path
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "data:" not in policy


async def test_style_sheets_comply_with_the_content_security_policy(client: Client) -> None:
    for path in ("/static/pico.min.css", "/static/page.css"):
        text = (await client.get(path)).text
        assert all(url.startswith("/static/") for url in re.findall(r"""url\(\s*["']?([^"')]*)""", text))
        assert "@import" not in text


@pytest.mark.slow
async def test_pages_have_no_inline_script_or_style(client: Client) -> None:
    for path in ("/", "/match", "/runs", "/syncs", "/login", "/video/UC1-001"):
        page = parsed((await client.get(path)).text)
        assert all(have.get("src") for have in page.all("script"))
        assert not page.all("style")
        assert not any(name == "style" or name.startswith("on") for _, have in page.tags for name in have)
        for _, have in page.tags:
            assert str(have.get("src") or "/").startswith("/")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8460", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example",
     "127.0.0.2", "0.0.0.0", "[::1]", "", "local host", "thumbs.example"],
)  # fmt: skip
async def test_only_known_host_names_are_answered(client: Client, host: str) -> None:
    for path in ("/", "/healthz", "/static/page.js", "/picture/" + "0" * 64):
        answer = await client.get(path, headers={"Host": host})
        assert answer.status in (400, 403), path
        assert "UC1-0" not in answer.text


async def test_allowed_host_names_are_answered(filled: object, sqlite_url: str) -> None:
    async with serving(sqlite_url, allowed_hosts=frozenset({"thumbs.example"})) as client:
        for host in ("thumbs.example", "THUMBS.example:443", "localhost", f"localhost:{client.address.port}"):
            assert (await client.get("/", headers={"Host": host})).status == 200
        assert (await client.get("/", headers={"Host": "other.example"})).status == 403


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("thumbs.example", "thumbs.example"),
        (" Thumbs.Example. ", "thumbs.example"),
        ("thumbs.example:8443", "thumbs.example"),
        ("::1", "::1"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
    ],
)
def test_allow_host_takes_names_as_they_are_written_in_addresses(sqlite_url: str, given: str, name: str) -> None:
    assert page_settings(App(sqlite_url), "127.0.0.1:0", [given]).allowed_hosts == {name}


@pytest.mark.parametrize("given", ["https://thumbs.example/", "thumbs.example/", "user@thumbs.example", "a b:c"])
def test_allow_host_refuses_what_no_request_can_match(sqlite_url: str, given: str) -> None:
    with pytest.raises(BadSetting, match="--allow-host"):
        page_settings(App(sqlite_url), "127.0.0.1:0", [given])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"Origin": "OWN"}, 415),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-origin"}, 415),
        ({"Origin": "OWN", "Sec-Fetch-Site": "none"}, 415),
        ({"Origin": "null"}, 403),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "OWN", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
async def test_forms_are_accepted_from_the_same_origin_only(
    client: Client, headers: dict[str, str], status: int
) -> None:
    own = {name: client.url("").rstrip("/") if value == "OWN" else value for name, value in headers.items()}
    for path in ("/match", "/search"):
        assert (await client.ask("POST", path, headers=own, data=b"{}")).status == status
    if status == 403:
        for path in ("/login", "/runs/1/promote", "/"):
            assert (await client.ask("POST", path, headers=own, data={"token": "x", "reason": "y"})).status == 403


async def test_other_methods_are_refused(client: Client) -> None:
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert (await client.ask(method, "/")).status in (403, 405)


async def test_every_page_needs_the_token(filled: object, sqlite_url: str) -> None:
    async with serving(sqlite_url, token=TOKEN) as client:
        for path in ("/", "/runs", "/syncs", "/video/UC1-001", "/picture/" + "0" * 64, "/upload/x", "/none"):
            answer = await client.get(path, allow_redirects=False)
            assert answer.status == 303
            assert answer.headers["Location"].startswith("/login")
        assert (await client.ask("POST", "/runs/1/promote", data={"reason": "x"})).status == 403
        assert (await client.get("/healthz")).text == "ok\n"
        for wrong in ("", TOKEN[:-1], TOKEN + "x", "ü"):
            refused = await client.ask("POST", "/login", data={"token": wrong, "next": "/runs"}, allow_redirects=False)
            assert refused.status == 403
            assert "Set-Cookie" not in refused.headers
        entered = await client.ask("POST", "/login", data={"token": TOKEN, "next": "/runs"}, allow_redirects=False)
        assert (entered.status, entered.headers["Location"]) == (303, "/runs")
        cookie = entered.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert (await client.get("/runs")).status == 200
        forged = await client.get("/runs", cookies={"thumbtune": "0" * 64}, allow_redirects=False)
        assert forged.status == 303
        for target, place in (("/runs?page=2", "/runs?page=2"), ("//[", "/"), ("//evil.example", "/"), ("/\\evil", "/"),
                              ("https://evil.example/", "/"), ("http://[", "/"), ("", "/")):  # fmt: skip
            assert (await client.get("/login", params={"next": target})).status == 200
            sent = {"token": TOKEN, "next": target}
            entered = await client.ask("POST", "/login", data=sent, allow_redirects=False)
            assert (entered.status, entered.headers["Location"]) == (303, place)


@pytest.mark.parametrize("length", [100, 12_000, 30_000])
async def test_a_link_of_any_length_leads_to_the_login(filled: object, sqlite_url: str, length: int) -> None:
    """A link of 12,000 bytes holds 50 titles. With its escapes escaped again, it is almost twice as long."""
    path = "/match?" + "t=%E6%97%A5+%26&" * (length // 16)
    async with serving(sqlite_url, token=TOKEN) as client:
        asked = await client.get(path, allow_redirects=False, max_field_size=64 << 10)
        login = await client.get(asked.headers["Location"])
        assert login.status == 200
        target = parsed(login.text).all("input", name="next")[0]["value"]
        assert target == (path if length < 20_000 else "/match")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: thumbtune=\xff\r\n", 303),
        (b"GET /login?next=%ff//[ HTTP/1.1\r\nHost: localhost\r\n", 200),
        (b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n", 415),
        (FORM + b"Content-Length: 9\r\n\r\ntoken=%ff", 400),
        (FORM + b"Content-Length: 4\r\nContent-Encoding: gzip\r\n\r\nabcd", 400),
        (FORM + b"Content-Length: 150\r\n\r\n" + b"a=&" * 50, 400),
        (FORM + b"Content-Length: 9\r\n\r\ntoken=", 408),
    ],
    ids=["cookie", "next", "type", "utf-8", "gzip", "fields", "half sent"],
)
async def test_malformed_requests_are_refused(
    filled: object, sqlite_url: str, monkeypatch: pytest.MonkeyPatch, request_bytes: bytes, status: int
) -> None:
    monkeypatch.setattr("thumbtune.ui.forms.FIELDS_IN_S", 0.2)
    async with serving(sqlite_url, token=TOKEN) as client:
        reader, writer = await asyncio.open_connection(client.address.host, client.address.port)
        writer.write(request_bytes if b"\r\n\r\n" in request_bytes else request_bytes + b"\r\n")
        assert int((await reader.readline()).split()[1]) == status
        writer.close()


def test_a_public_address_needs_a_token_and_a_host_name() -> None:
    check_settings(PageSettings("sqlite:///x", Listen("127.0.0.1", 1)))
    check_settings(PageSettings("sqlite:///x", Listen("::1", 1)))
    check_settings(PageSettings("sqlite:///x", Listen("192.168.1.5", 1), token=TOKEN))
    check_settings(PageSettings("sqlite:///x", Listen("0.0.0.0", 1), frozenset({"me.example"}), TOKEN))
    for address, names, token in (
        ("192.168.1.5", frozenset[str](), None),
        ("0.0.0.0", frozenset({"me.example"}), None),
        ("::", frozenset[str](), TOKEN),
    ):
        with pytest.raises(CantServe):
            check_settings(PageSettings("sqlite:///x", Listen(address, 1), names, token))


@pytest.mark.parametrize(
    "options",
    [
        ("--listen", "0.0.0.0:0"),
        ("--listen", "nowhere"),
        ("--listen", "127.0.0.1:99999"),
        ("--token-file", "missing"),
        ("--token-file", "short"),
        ("--token-file", "binary"),
        ("--listen", "0.0.0.0:0", "--token-file", "good"),
    ],
)
def test_options_that_would_grant_unintended_access_are_refused(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    Path("short").write_text("abc")
    Path("binary").write_bytes(b"\xff" * 32)
    Path("good").write_text(TOKEN)
    with pytest.raises(SystemExit) as ended:
        main(["ui", "--no-browser", *options])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "error: " in told
    assert TOKEN not in told


def test_host_headers_are_parsed() -> None:
    assert host_name("Example.org:80") == "example.org"
    assert host_name("[::1]:8460") == "::1"
    for strange in ("", "a/b", "a@b", "a:b", "a:99999999", "?", "#"):
        assert host_name(strange) is None
    assert parse_listen("[::1]:0") == Listen("::1", 0)
    assert str(Listen("::1", 5)) == "[::1]:5"
    settings = PageSettings("postgresql://me:secret@host/x", Listen("127.0.0.1", 1), token=TOKEN)
    assert "secret" not in repr(settings)
    assert TOKEN not in repr(settings)
