"""Limits on clients: connections, time, headers, bodies; and uploaded pictures."""

from __future__ import annotations

import asyncio
import hashlib
import io
from contextlib import suppress
from html import unescape
from pathlib import Path

import aiohttp
import pytest

from collector.http import Limits
from store.db import Database
from tests.hostile.pictures import saved
from tests.store.builders import add_channel, add_video
from tests.thumbtune.ui.serving import Client, serving
from tests.trainer.tiny import draw
from thumbtune.ui.uploads import MAX_BYTES, Uploads

LARGE = 24 << 20
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def form(*pictures: bytes, **fields: str) -> aiohttp.FormData:
    data = aiohttp.FormData(default_to_multipart=True)
    for name, value in fields.items():
        data.add_field(name, value)
    for number, content in enumerate(pictures):
        data.add_field("file", io.BytesIO(content), filename=f"../../picture{number}.png", content_type="image/png")
    return data


def sizes(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_size for file in folder.rglob("*")}


async def cut_off(writer: asyncio.StreamWriter) -> None:
    """Wait until the other end has closed the connection."""
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def connect(client: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(client.address.host, client.address.port)


@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nHost: loc", REQUEST, REQUEST + b"GET /"])
async def test_a_client_without_complete_headers_is_disconnected(filled: Database, beginning: bytes) -> None:
    async with serving(str(filled.url), Limits(head_s=0.2)) as client:
        reader, writer = await connect(client)
        writer.write(beginning)
        async with asyncio.timeout(20):
            try:
                received = await reader.read()
            except ConnectionError:
                received = b""
        writer.close()
        assert (await client.get("/healthz")).text == "ok\n"
    assert received.endswith(b"ok\n") == beginning.startswith(REQUEST)


async def test_a_client_that_does_not_read_the_response_is_disconnected(
    sqlite_database: Database, large_picture: str
) -> None:
    async with serving(str(sqlite_database.url), Limits(stalled_s=0.3)) as client:
        _, writer = await connect(client)
        writer.write(f"GET {large_picture} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        # This end's buffers receive a small part; the rest is abandoned with the connection.
        async with asyncio.timeout(60):
            with pytest.raises(ConnectionError):
                await cut_off(writer)
        writer.close()


@pytest.fixture
async def large_picture(sqlite_database: Database) -> str:
    """The path of a picture that is larger than the sockets' buffers."""
    content = b"\xff" * LARGE
    with sqlite_database.write() as session:
        add_channel(session)
        add_video(session, "large", day=1, picture=content)
    return f"/picture/{hashlib.sha256(content).hexdigest()}"


@pytest.mark.slow
async def test_a_slow_client_gets_the_whole_response(sqlite_database: Database, large_picture: str) -> None:
    """Reading takes several times as long as the limits for pauses and for the next head."""
    async with serving(str(sqlite_database.url), Limits(head_s=0.3, stalled_s=1.0)) as client:
        reader, writer = await connect(client)
        writer.write(f"GET {large_picture} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        received = 0
        ends = asyncio.get_running_loop().time() + 2.5
        while received < LARGE:
            received += len(await reader.readexactly(min(LARGE // 30, LARGE - received)))
            if asyncio.get_running_loop().time() < ends:
                await asyncio.sleep(0.1)
        writer.close()
    assert received == LARGE


async def test_a_client_that_is_reading_its_response_is_not_replaced(
    sqlite_database: Database, large_picture: str
) -> None:
    async with serving(str(sqlite_database.url), Limits(connections=2)) as client:
        reader, writer = await connect(client)
        writer.write(f"GET {large_picture} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(5):
            other_reader, other = await connect(client)
            other.write(REQUEST)
            assert (await other_reader.readline()).startswith(b"HTTP/1.1 200")
            other.close()
        assert len(await reader.readexactly(LARGE)) == LARGE
        writer.close()


@pytest.mark.slow
async def test_slow_clients_are_replaced_if_they_hold_all_connections(
    sqlite_database: Database, large_picture: str
) -> None:
    async with serving(str(sqlite_database.url), Limits(connections=3)) as client:
        slow = [await connect(client) for _ in range(3)]
        for reader, writer in slow:
            writer.write(f"GET {large_picture} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
        reader, writer = await connect(client)
        writer.write(REQUEST)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await slow[0][0].readexactly(LARGE)
        assert len(await slow[2][0].readexactly(LARGE)) == LARGE, (
            "only the connection that has read for longest is closed"
        )
        for _, opened in [*slow, (reader, writer)]:
            opened.close()


async def test_the_number_of_connections_is_limited(filled: Database) -> None:
    async with serving(str(filled.url), Limits(connections=20)) as client:
        opened = [await connect(client) for _ in range(100)]
        async with asyncio.timeout(30):
            refused = 0
            for reader, writer in opened[:80]:
                try:
                    writer.write(REQUEST)
                    refused += await reader.read(1) == b""
                except ConnectionError:
                    refused += 1
            assert refused == 80
            for reader, writer in opened[80:]:
                writer.write(REQUEST)
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in opened:
            writer.close()


@pytest.mark.slow
async def test_a_thousand_connections_do_not_break_the_page(filled: Database) -> None:
    async with serving(str(filled.url)) as client:
        opened = await asyncio.gather(*(connect(client) for _ in range(1000)))
        for _, writer in opened:
            writer.close()
        async with asyncio.timeout(30):
            while True:  # until the server has seen that they are closed
                try:
                    assert (await client.get("/")).status == 200
                    break
                except (aiohttp.ClientConnectionError, ConnectionError):
                    continue


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["line", "header", "headers", "two hosts", "no host", "tls"],
)  # fmt: skip
async def test_malformed_headers_are_refused(client: Client, head: bytes) -> None:
    reader, writer = await connect(client)
    writer.write(head)
    if head.startswith(b"\x16"):
        writer.write_eof()
    async with asyncio.timeout(30):
        try:
            first = await reader.readline()
        except ConnectionError:
            first = b""
    writer.close()
    assert first == b"" or 400 <= int(first.split()[1]) < 500
    assert (await client.get("/healthz")).text == "ok\n"


async def test_forms_that_are_too_large_are_refused(client: Client) -> None:
    too_large = b"\x89PNG" + bytes(MAX_BYTES)
    assert (await client.ask("POST", "/search", data=form(too_large))).status == 413
    assert (await client.ask("POST", "/match", data=form(titles="x" * 100_000))).status == 413
    assert (await client.ask("POST", "/match", data=form(**{f"f{n}": "x" for n in range(100)}))).status == 413
    assert (await client.ask("POST", "/match", data=form(*[draw("red", "bar", n) for n in range(4)]))).status == 413
    assert (await client.ask("POST", "/runs/1/promote", data={"reason": "x" * 200_000})).status == 413
    assert (await client.ask("POST", "/match", data=b"{}", headers={"Content-Type": "application/json"})).status == 415
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x", b"--x\r\n\r\nno end", b"--y--"):
        assert (await client.ask("POST", "/match", data=body, headers=broken)).status in (200, 400)


@pytest.mark.parametrize(
    "head",
    [
        b"\r\n".join(b"X-%d: y" % n for n in range(200)),
        b"X: " + b"y" * 20_000,
        b"no header",
        b"X\0: y",
        b'Content-Disposition: form-data; filename="\x1b"',
        b'Content-Disposition: form-data; name="_charset_"',
        b'Content-Disposition: form-data; name="x"\r\nContent-Length: -5',
        b"Content-Type: multipart/mixed",
        b"Content-Type: multipart/mixed; boundary=x",
        b"Content-Type: ;;;",
    ],
)
async def test_parts_that_no_browser_sends(client: Client, head: bytes, caplog: pytest.LogCaptureFixture) -> None:
    types = {"Content-Type": "multipart/form-data; boundary=x"}
    for end in (b"\r\n--x--\r\n", b""):
        body = b"--x\r\n" + head + b"\r\n\r\n" + b"y" * 100 + end
        assert (await client.ask("POST", "/match", data=body, headers=types)).status in (200, 400, 413)
    assert "Traceback" not in caplog.text


async def test_bodies_that_are_not_compressed_as_announced(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    announced = {"Content-Encoding": "gzip", "Content-Type": "application/x-www-form-urlencoded"}
    for path in ("/login", "/", "/runs/1/promote"):
        with suppress(aiohttp.ServerDisconnectedError):
            await client.ask("POST", path, data=b"no gzip", headers=announced)
    assert (await client.get("/healthz")).text == "ok\n"
    assert "Traceback" not in caplog.text


@pytest.mark.slow
async def test_uploads_are_checked_like_thumbnails(client: Client) -> None:
    for content in (b"GIF89a", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"no picture", saved("BMP"), saved("TIFF"),
                    saved("PNG", size=(9000, 9000)), draw("red", "bar", 1)[:60]):  # fmt: skip
        answer = await client.ask("POST", "/search", data=form(content))
        assert answer.status == 400, content[:10]
        assert "can't be used" in unescape(answer.text)
    assert (await client.ask("POST", "/search", data=form())).status == 400


async def test_uploads_are_kept_in_memory_only(client: Client, filled: Database, tmp_path: Path) -> None:
    content = draw("navy", "square", 5, "only here")
    before = sizes(tmp_path)
    answer = await client.ask("POST", "/search", data=form(content), allow_redirects=False)
    assert answer.status == 303
    name = answer.headers["Location"].removeprefix("/?u=")
    async with client.session.get(client.url(f"/upload/{name}")) as shown:
        assert await shown.read() == content
        assert shown.content_type == "image/png"
        assert shown.headers["Cache-Control"] == "no-store"
    assert sizes(tmp_path) == before


async def test_forms_that_arrive_at_the_same_time_fit_into_memory(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbtune.ui.uploads._MOST_ARRIVING", 3 << 20)
    head = (
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        b"Content-Length: 4000000\r\n\r\n--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\n"
    )
    slow = [await connect(client) for _ in range(3)]
    for _, writer in slow:
        writer.write(head + bytes(1 << 20))
        await writer.drain()
    async with asyncio.timeout(30):
        while (await client.ask("POST", "/search", data=form(bytes(1 << 20)))).status != 503:
            pass  # until the server has read the bodies of the others
        for _, writer in slow:
            writer.close()
        picture = draw("red", "bar", 1)
        while (await client.ask("POST", "/search", data=form(picture), allow_redirects=False)).status != 303:
            pass  # until the server has seen that they are closed


async def test_old_uploads_are_removed_to_make_room() -> None:
    uploads = Uploads()
    async with uploads.opened():
        names = [await uploads.add(draw("red", "bar", number)) for number in range(60)]
        assert uploads.get(names[0]) is None
        assert uploads.get(names[-1]) is not None
        assert len(set(names)) == 60
    assert uploads.get(names[-1]) is None
