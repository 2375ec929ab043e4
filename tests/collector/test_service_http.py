"""The service's HTTP endpoints, with a real client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import psutil
import pytest
from sqlalchemy import text
from yarl import URL

from collector.errors import BadSetting, CantListen
from collector.http import Listen, parse_listen
from collector.watch import Service
from collector.watch.metrics import KEPT_TICKS, TICK_S, LoopLag
from store.db import Database
from tests.collector.channels import channel, sync_runs
from tests.collector.watching import Clock, answering, service, values
from tests.standin import Fault, Faults, StandIn

ANYWHERE = Listen("127.0.0.1", 0)
LONG = 24.0 * 365


async def get(address: str, path: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(f"{address}{path}") as answer:
        return answer.status, answer.content_type, await answer.text()


async def until(address: str, path: str, status: int) -> str:
    """The text of the first answer with this status."""
    deadline = time.monotonic() + 30
    while True:
        found, _, said = await get(address, path)
        if found == status:
            return said
        assert time.monotonic() < deadline, (found, said)


def listening(database: Database, server: StandIn, *names: str, **options: Any) -> tuple[Service, asyncio.Event]:
    stop = asyncio.Event()
    clock = Clock(LONG)
    return service(database, server, clock, *names, stop=stop, listen=ANYWHERE, **options), stop


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    async with StandIn(channel(3, title="Sealed title"), keys=["stand-in-key"]) as started:
        yield started


async def test_a_working_service_is_healthy_and_ready(sqlite_database: Database, server: StandIn) -> None:
    watch, stop = listening(sqlite_database, server, "@tests")
    async with answering(watch, stop) as address:
        for path in ("/healthz", "/readyz"):
            assert await get(address, path) == (200, "text/plain", "ok\n")
        assert (await get(address, "/"))[0] == 404


async def test_the_service_is_not_ready_while_every_channel_fails(sqlite_database: Database, server: StandIn) -> None:
    down = Fault("status", path="/youtube/v3/", status=500)
    server.faults = Faults([down], most_in_a_row=None)
    watch, stop = listening(sqlite_database, server, "@tests")
    async with answering(watch, stop) as address:
        assert "every channel failed" in await until(address, "/readyz", 503)
        assert (await get(address, "/healthz"))[0] == 200
        server.faults = Faults()
        assert await until(address, "/readyz", 200) == "ok\n"


async def test_the_service_is_ready_while_one_channel_succeeds(sqlite_database: Database, server: StandIn) -> None:
    other = channel(0, name="other")
    playlist = {"playlistId": "UU" + other.channel_id[2:]}
    down = Fault("status", path="/youtube/v3/playlistItems", query=playlist, status=500)
    async with StandIn(channel(3), other, faults=Faults([down], most_in_a_row=None)) as both:
        watch, stop = listening(sqlite_database, both, "@tests", "@other")
        async with answering(watch, stop) as address:
            deadline = time.monotonic() + 30
            good, bad = (both.catalogues[0].channel_id, "complete"), (other.channel_id, "failed")
            while good not in (synced := values(watch.metrics, "thumbtune_syncs_total")) or synced.get(bad, 0) < 2:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
            assert await get(address, "/readyz") == (200, "text/plain", "ok\n")


class _Held(Clock):
    """Blocks the store's thread when it reads the time, which it does when the service reads its schedule."""

    def __init__(self) -> None:
        super().__init__(LONG)
        self.go = threading.Event()

    def now(self) -> datetime:
        if threading.current_thread() is not threading.main_thread():
            self.go.wait(30)
        return super().now()


async def test_the_service_is_not_ready_while_the_store_does_not_answer(
    sqlite_database: Database, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.watch.service.STORE_ANSWERS_IN_S", 0.01)
    clock, stop = _Held(), asyncio.Event()
    watch = service(sqlite_database, server, clock, "@tests", stop=stop, listen=ANYWHERE)
    async with answering(watch, stop) as address:
        try:
            async with asyncio.timeout(10):
                said = await get(address, "/readyz")
        finally:
            clock.go.set()
    assert said[:2] == (503, "text/plain")
    assert "store does not answer" in said[2]


# A connection that the service uses while the test closes the store is never closed, which Python 3.13 warns of.
@pytest.mark.filterwarnings(
    "ignore:unclosed database:ResourceWarning", "ignore:.*sqlite3.Connection:pytest.PytestUnraisableExceptionWarning"
)
async def test_the_service_is_not_ready_while_the_store_cannot_be_read(
    sqlite_database: Database, server: StandIn
) -> None:
    watch, stop = listening(sqlite_database, server, "@tests")
    async with answering(watch, stop) as address:
        path = sqlite_database.path
        assert path is not None
        sqlite_database.close()
        for file in path.parent.glob(f"{path.name}*"):
            file.rename(file.with_suffix(file.suffix + ".away"))
        path.mkdir()
        told = await until(address, "/readyz", 503)
        assert "DatabaseUnavailable" in told
        assert str(path) not in told, "anyone who can reach the service can read this"
        path.rmdir()
        for file in path.parent.glob("*.away"):
            file.rename(file.with_suffix(""))
        await until(address, "/readyz", 200)


@pytest.mark.slow
async def test_metrics_name_channels_by_id_and_contain_no_secrets(sqlite_database: Database, server: StandIn) -> None:
    watch, stop = listening(sqlite_database, server, "@tests")
    channel_id = server.catalogues[0].channel_id
    async with answering(watch, stop) as address:
        deadline = time.monotonic() + 30
        while not (runs := sync_runs(sqlite_database)) or runs[0].finished_at is None:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        deadline = time.monotonic() + 30
        while (channel_id,) not in values(watch.metrics, "thumbtune_last_success_timestamp_seconds"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        while values(watch.metrics, "thumbtune_loop_lag_seconds_count")[()] == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        status, kind, body = await get(address, "/metrics")
    assert (status, kind) == (200, "text/plain")
    assert values(body.encode(), "thumbtune_syncs_total")[channel_id, "complete"] == 1
    assert values(body.encode(), "thumbtune_units_total") == {(channel_id,): 3.0}
    assert values(body.encode(), "thumbtune_pictures_total")[channel_id, "fetched"] == 3
    assert values(body.encode(), "thumbtune_sync_seconds_count")[(channel_id,)] >= 1
    assert values(body.encode(), "thumbtune_units_budget") == {(): 9000.0}
    for secret in ("stand-in-key", "Sealed title", "The tests channel"):
        assert secret not in body


async def test_a_channel_with_a_hostile_name_breaks_no_line(sqlite_database: Database) -> None:
    watch, _ = listening_nowhere(sqlite_database)
    name = 'x"\n# HELP y'
    watch.metrics.broke(name)
    assert values(watch.metrics, "thumbtune_failures_total") == {(name,): 1.0}


def listening_nowhere(database: Database) -> tuple[Service, asyncio.Event]:
    with StandIn(channel(0)) as server:
        return listening(database, server, "@tests")


async def test_a_blocked_loop_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop only sees that it was blocked by its clock, which the test sets."""
    loop = asyncio.get_running_loop()
    lags: list[float] = []
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    lag = LoopLag(lags.append)

    async def turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async with lag.measured():
        await turns()
        assert lag.worst_s() == 0
        now += TICK_S + 0.2
        assert lag.worst_s() == pytest.approx(0.2), "detected while the tick is overdue"
        await turns()
        assert lags == [pytest.approx(0.2)]
        for _ in range(KEPT_TICKS):
            assert lag.worst_s() == pytest.approx(0.2), "for ten seconds"
            now += TICK_S
            await turns()
        assert lag.worst_s() == pytest.approx(0)
    assert len(lags) == 1 + KEPT_TICKS


async def test_a_blocked_loop_is_not_healthy(
    sqlite_database: Database, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.watch.service.MOST_LAG_S", -1.0)
    watch, stop = listening(sqlite_database, server, "@tests")
    async with answering(watch, stop) as address:
        status, _, said = await get(address, "/healthz")
    assert status == 503
    assert said.startswith("the event loop was blocked for ")


async def test_an_address_in_use_is_one_clear_error(sqlite_database: Database, server: StandIn) -> None:
    taken = Listen("127.0.0.1", server.port)
    stop = asyncio.Event()
    watch = service(sqlite_database, server, Clock(1), "@tests", stop=stop, listen=taken)
    with pytest.raises(CantListen, match=rf"127\.0\.0\.1:{server.port} .*--listen"):
        await watch.run()
    assert sync_runs(sqlite_database) == []
    with sqlite_database.write() as session:  # and the store is free
        session.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    ("given", "host", "port", "loopback"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464, True),
        ("127.5.5.5:1", "127.5.5.5", 1, True),
        ("localhost:0", "localhost", 0, True),
        ("[::1]:9464", "::1", 9464, True),
        ("0.0.0.0:9464", "0.0.0.0", 9464, False),
        ("[::]:9464", "::", 9464, False),
        ("example.org:80", "example.org", 80, False),
    ],
)
def test_addresses(given: str, host: str, port: int, loopback: bool) -> None:
    listen = parse_listen(given)
    assert (listen.host, listen.port, listen.is_loopback, str(listen)) == (host, port, loopback, given)


@pytest.mark.parametrize(
    "given", ["", "9464", ":9464", "localhost", "a:b", "a:70000", "u@a:1", "a:1/x", "a b:1", "::1:9"]
)
def test_invalid_addresses_are_refused(given: str) -> None:
    with pytest.raises(BadSetting, match="HOST:PORT"):
        parse_listen(given)


async def test_half_open_connections_do_not_block_other_clients(sqlite_database: Database, server: StandIn) -> None:
    watch, stop = listening(sqlite_database, server, "@tests")
    async with answering(watch, stop) as address:
        place, before, opened = URL(address), psutil.Process().num_fds(), []
        for _ in range(300):
            _, writer = await asyncio.open_connection(place.host, place.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
            opened.append(writer)
        assert await until(address, "/healthz", 200) == "ok\n"
        assert psutil.Process().num_fds() - before < 300 + 100, "the server holds at most 64 of them"
        for writer in opened:
            writer.close()


async def test_malformed_requests_are_answered_and_not_logged(
    sqlite_database: Database, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    watch, stop = listening(sqlite_database, server, "@tests")
    async with answering(watch, stop) as address:
        for head in (b"GET /healthz HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1", b"\x16\x03\x01"):
            reader, writer = await asyncio.open_connection(URL(address).host, URL(address).port)
            writer.write(head + b"\r\n\r\n")
            assert (await reader.read()).split()[1:2] == [b"400"]
            writer.close()
    assert "Traceback" not in caplog.text
