"""A server with every kind of failure: which requests are retried, which are not, and the messages."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.reliability_faults import MOST_REQUESTS, SHARES, videos_asked_for, with_details
from bench.reliability_lab import contents as everything
from collector.errors import ApiError, BadAnswer, BadKey, ChannelNotFound, NetworkError, QuotaExceeded
from collector.http import Http
from collector.http.session import Pauses
from collector.settings import settings_from
from collector.sync import SyncReport, sync_channels
from collector.youtube import parse_channel_name
from store.db import Database, open_database
from store.types import utc_now
from store.youtube import quota_day, units_spent
from tests.collector.channels import channel, contents, failures, hasty_http, sync
from tests.standin import Fault, Faults, StandIn

API = "/youtube/v3/"
TRANSIENT = {
    "500": Fault("status", path=API, status=500, times=2),
    "503": Fault("status", path=API, status=503, times=2),
    "429": Fault("status", path=API, status=429, retry_after=7, times=2),
    "reset": Fault("reset", path=API, times=2),
    "cut": Fault("cut", path=API, times=2),
    "cut json": Fault("cut_json", path=API, times=2),
    "html": Fault("html", path=API, times=2),
    "array": Fault("body", path=API, body=b"[]", content_type="application/json", times=2),
    "nan": Fault("body", path=API, body=b'{"kind": NaN}', content_type="application/json", times=2),
    "deep": Fault("body", path=API, body=b'{"a":' + b"[" * 200_000, content_type="application/json", times=2),
    "another": Fault("body", path=API, body=b'{"kind": "x"}', content_type="application/json", times=2),
}


def refusal(http_status: int, reason: str, message: str = "No.", **more: Any) -> Fault:
    error = {"code": http_status, "message": message, "errors": [{"reason": reason, "message": message}], **more}
    body = json.dumps({"error": error}).encode()
    return Fault("body", path=API, status=http_status, body=body, content_type="application/json")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSIENT)
async def test_transient_faults_are_retried(sqlite_database: Database, name: str) -> None:
    async with StandIn(channel(3), faults=Faults([TRANSIENT[name]])) as server:
        report = await sync(sqlite_database, server)
        assert report.status == "complete"
        assert report.requests == server.journal.count() == 3 + 2 + 3
    assert len(contents(sqlite_database)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    # The stand-in only charges for truncated answers; on YouTube, a reset request may have been charged.
    [("500", 0), ("503", 0), ("429", 0), ("cut", 0), ("cut json", 0), ("reset", 2), ("html", 2), ("too long", 2)],
)
async def test_every_charged_unit_is_counted(sqlite_database: Database, name: str, more: int) -> None:
    too_long = Fault("body", path=API, body=bytes(17 << 20), content_type="application/json", times=2)
    async with StandIn(channel(3), faults=Faults([TRANSIENT.get(name, too_long)])) as server:
        report = await sync(sqlite_database, server)
        assert (report.status, report.requests) == ("complete", 3 + 2 + 3)
        assert report.units == server.units + more
    with sqlite_database.read() as session:
        assert units_spent(session, quota_day(utc_now())) == report.units


async def test_each_resend_of_a_request_is_counted(sqlite_database: Database) -> None:
    """A kept-alive connection ends without an answer: the request is resent at once, and both may be charged."""
    body = b'{"kind": "youtube#channelListResponse"}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the client has disconnected
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head + body)
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_once, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        (report,) = await sync_channels(
            sqlite_database,
            [parse_channel_name("youtube.com/c/nobody")],  # looked up by both of its names
            settings_from({"YOUTUBE_API_KEY": "k", "THUMBTUNE_API_URL": f"http://127.0.0.1:{port}"}),
            http=hasty_http(),
        )
    assert isinstance(report.error, ChannelNotFound)
    assert (report.units, report.requests) == (3, 3)


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "userRateLimitExceeded"])
async def test_after_429_requests_are_slowed_down_and_retried(sqlite_database: Database, reason: str) -> None:
    fault = replace(refusal(403, reason), times=2)
    async with StandIn(channel(3), faults=Faults([fault])) as server:
        assert (await sync(sqlite_database, server)).status == "complete"


@pytest.mark.parametrize("fault", [TRANSIENT["500"], TRANSIENT["html"], TRANSIENT["cut"]], ids=["500", "html", "cut"])
async def test_retries_are_limited(sqlite_database: Database, fault: Fault) -> None:
    for_good = Faults([replace(fault, times=None)], most_in_a_row=None)
    async with StandIn(channel(3), faults=for_good) as server:
        report = await sync(sqlite_database, server)
        assert (report.status, report.exit_code) == ("failed", 1)
        assert isinstance(report.error, BadAnswer | NetworkError)
        assert "5 attempts" in str(report.error)
        assert server.journal.count() == 5


REFUSED: dict[str, tuple[Fault, type[Exception], str]] = {
    "keyInvalid": (refusal(400, "keyInvalid"), BadKey, "is invalid"),
    "badRequest": (
        refusal(400, "badRequest", "API key not valid.", details=[{"reason": "API_KEY_INVALID"}]),
        BadKey,
        "is invalid",
    ),
    "expired": (
        refusal(400, "badRequest", "API key expired. Renew it.", details=[{"reason": "API_KEY_INVALID"}]),
        BadKey,
        "has expired",
    ),
    "ip": (refusal(403, "ipRefererBlocked"), BadKey, "restrictions"),
    "off": (refusal(403, "accessNotConfigured"), BadKey, "disabled"),
    "400": (refusal(400, "invalidParameter", "Bad <code>part</code>."), ApiError, "Bad part."),
    "404": (refusal(404, "notFound"), ApiError, "404"),
    "401": (refusal(401, "authError"), BadKey, "YOUTUBE_API_KEY"),
    "403": (refusal(403, "SERVICE_UNAVAILABLE", status="PERMISSION_DENIED"), ApiError, "403"),
    "html 404": (
        Fault("body", path=API, status=404, body=b"<p>Not here", content_type="text/html"),
        ApiError,
        "THUMBTUNE_API_URL",
    ),
    "redirect": (Fault("redirect", path=API, location="http://127.0.0.1:9/"), ApiError, "THUMBTUNE_API_URL"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_is_never_retried(sqlite_database: Database, name: str) -> None:
    fault, kind, said = REFUSED[name]
    async with StandIn(channel(3), faults=Faults([fault], most_in_a_row=None)) as server:
        report = await sync(sqlite_database, server)
        assert server.journal.count() == 1
    assert (report.status, report.exit_code) == ("failed", 1)
    assert isinstance(report.error, kind)
    assert said in str(report.error)
    assert str(report.error).isprintable()


PER_DAY = "Quota exceeded for quota metric 'Queries' and limit 'Queries per day' of service 'youtube.googleapis.com'."
PER_MINUTE = PER_DAY.replace("per day", "per minute per user")

SPENT = {
    "403 quotaExceeded": refusal(403, "quotaExceeded"),
    "403 daily": refusal(403, "dailyLimitExceeded"),
    "403 in words": refusal(403, "rateLimitExceeded", "Daily Limit Exceeded"),
    "403 in YouTube's words": refusal(403, "forbidden", "You have exceeded your <a href='/q'>quota</a>."),
    "403 in words, no reason": refusal(403, "x", PER_DAY, status="PERMISSION_DENIED"),
    "403 code in details": refusal(403, "x", PER_DAY, details=[{"reason": "QUOTA_EXCEEDED"}]),
    "429 in words": refusal(429, "rateLimitExceeded", PER_DAY),
    "429 in words, no reason": refusal(429, "x", PER_DAY, status="RESOURCE_EXHAUSTED"),
    "429 limit": refusal(429, "rateLimitExceeded", details=[{"metadata": {"quota_limit": "defaultPerDayPerProject"}}]),
    "429 unit": refusal(429, "rateLimitExceeded", details=[{"metadata": {"quota_unit": "1/d/{project}"}}]),
    "429 violation": refusal(429, "x", details=[{"violations": [{"description": "Queries per day exceeded"}]}]),
}
TOO_FAST = {
    "403": refusal(403, "rateLimitExceeded", PER_MINUTE),
    "403 no reason": refusal(403, "x", PER_MINUTE),
    "403 in YouTube's words": refusal(403, "x", "You have exceeded your quota per minute."),
    "429 in words": refusal(429, "rateLimitExceeded", PER_MINUTE),
    "429 limit": refusal(429, "quota", details=[{"metadata": {"quota_limit": "defaultPerMinutePerProject"}}]),
    "429 unit": refusal(429, "x", PER_DAY, details=[{"metadata": {"quota_unit": "1/min/{project}"}}]),
    "429 unexplained": refusal(429, "x", "Resource has been exhausted (e.g. check quota)."),
    "429 broken": Fault("body", path=API, status=429, body=b'{"error":', content_type="application/json"),
}


@pytest.mark.parametrize("name", SPENT)
async def test_every_form_of_a_spent_daily_quota_is_recognised(sqlite_database: Database, name: str) -> None:
    async with StandIn(channel(3), faults=Faults([SPENT[name]], most_in_a_row=None)) as server:
        report = await sync(sqlite_database, server)
        assert server.journal.count() == 1
    assert (report.status, report.exit_code) == ("quota", 3)
    assert isinstance(report.error, QuotaExceeded)


@pytest.mark.parametrize("name", TOO_FAST)
async def test_a_rate_limit_is_not_a_spent_daily_quota(sqlite_database: Database, name: str) -> None:
    fault = replace(TOO_FAST[name], times=2)
    async with StandIn(channel(3), faults=Faults([fault])) as server:
        assert (await sync(sqlite_database, server)).status == "complete"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_a_429_with_json_from_a_thumbnail_host_is_retried(sqlite_database: Database, status: int) -> None:
    fault = Fault(
        "body", path="/vi/", status=status, body=b'{"error": {"code": 1}}', content_type="application/json", times=2
    )
    async with StandIn(channel(3), faults=Faults([fault])) as server:
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched) == ("complete", 3)


@pytest.mark.slow
async def test_a_sync_with_mixed_faults_stores_the_same_as_a_clean_sync(tmp_path: Path) -> None:
    stores = [open_database(f"sqlite:///{tmp_path / name}.db") for name in ("clean", "faulty")]
    async with StandIn(channel(300)) as server:
        clean = await sync(stores[0], server)
        server.faults = plan = Faults((*SHARES[:-1], replace(SHARES[-1], delay_s=0.01)), seed=1, most_in_a_row=3)
        report = await sync(stores[1], server)
    assert set(plan.made) == {"status", "reset", "cut", "cut_json", "html", "slow"}
    assert report.status == "complete"
    assert report.requests < MOST_REQUESTS * clean.requests
    assert everything(stores[0]) == everything(stores[1])
    for store in stores:
        store.close()


async def test_html_instead_of_a_thumbnail_is_retried_a_limited_number_of_times(sqlite_database: Database) -> None:
    once = Fault("html", path="/vi/video000000/", times=2)
    for_good = Fault("html", path="/vi/video000001/")
    async with StandIn(channel(3), faults=Faults([once, for_good], most_in_a_row=None)) as server:
        report = await sync(sqlite_database, server)
    assert (report.status, report.pictures_fetched) == ("partial", 2)
    ((video_id, reason),) = failures(sqlite_database).items()
    assert video_id == "video000001"
    assert "HTML" in reason


async def test_pauses_grow_up_to_a_bound_and_honour_retry_after(sqlite_database: Database) -> None:
    waited: list[float] = []

    async def note(seconds: float) -> None:
        waited.append(seconds)

    for_good = Faults([Fault("status", path=API, status=500)], most_in_a_row=None)
    async with StandIn(channel(1), faults=for_good) as server:
        pauses = Pauses(tries=7, first_s=1, longest_s=10)
        await sync(sqlite_database, server, http=Http(sleep=note, draw=lambda: 1.0, pauses=pauses))
        assert waited == [1, 2, 4, 8, 10, 10]
        waited.clear()
        server.faults = Faults(
            [
                Fault("status", path=API, status=429, retry_after=30, times=1),
                Fault("status", path=API, status=503, retry_after=100_000, times=1),
            ]
        )
        await sync(sqlite_database, server, http=Http(sleep=note, draw=lambda: 0.0, pauses=pauses))
        assert waited == [30, 60]


async def test_an_unreachable_server_is_one_clear_error(sqlite_database: Database) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        reports = await sync_channels(
            sqlite_database,
            [parse_channel_name("@tests")],
            settings_from({"YOUTUBE_API_KEY": "k", "THUMBTUNE_API_URL": f"http://127.0.0.1:{port}"}),
            http=hasty_http(),
        )
    assert isinstance(reports[0].error, NetworkError)
    assert reports[0].units == 0, "no request is sent"
    assert f"127.0.0.1:{port}: " in str(reports[0].error)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 3, 60, 200])
async def test_a_server_that_fails_during_a_sync_loses_no_data(sqlite_database: Database, after: int) -> None:
    dies = Fault("reset", path="/", after=after)
    async with StandIn(channel(230), faults=Faults([dies], most_in_a_row=None)) as server:
        report: SyncReport = await sync(sqlite_database, server)
        assert (report.status, report.exit_code) == ("failed", 1)
        assert isinstance(report.error, NetworkError)
        kept = with_details(sqlite_database)
        # The third answer is the second page, or the first page's details: they overlap.
        assert after == 3 or bool(kept) == (after >= 60)
        assert failures(sqlite_database) == {}, "a network failure is not recorded for a thumbnail"
        server.faults = Faults()
        server.journal.clear()
        assert (await sync(sqlite_database, server)).status == "complete"
        assert not kept & videos_asked_for(server.journal.requests("videos"))
    found = contents(sqlite_database)
    assert len(found) == 230
    assert all(row[4] is not None for row in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8, 10])
async def test_no_unit_is_spent_twice_after_a_spent_quota(sqlite_database: Database, limit: int) -> None:
    async with StandIn(channel(230), daily_limit=limit) as server:
        report = await sync(sqlite_database, server)
        assert (report.status, report.exit_code) == ("quota", 3)
        assert server.units == limit
        server.quota.limit = None
        assert (await sync(sqlite_database, server)).status == "complete"
        assert server.units == 1 + 5 + 5
    assert len(contents(sqlite_database)) == 230


async def test_the_key_is_sent_only_in_its_header(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = "AIzaSECRETsecretSECRET0123456789"
    caplog.set_level(logging.DEBUG)
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    said = []
    async with StandIn(channel(60)) as server:
        settings = settings_from(server.environment(key))
        said.append(repr(settings))
        server.faults = Faults([TRANSIENT["500"]])
        said.append(str((await sync(database, server, key=key)).as_dict()))
        quoting = f"Requests from consumer 'api_key:{key}' are blocked."
        for fault in (refusal(403, "forbidden", quoting), refusal(500, "x", quoting), refusal(400, "x", key)):
            server.faults = Faults([fault], most_in_a_row=None)
            report = await sync(database, server, "@another", key=key)
            assert report.error is not None
            said += [str(report.as_dict()), repr(report.error), repr(report.error.__cause__)]
        for request in server.journal.requests():
            assert key not in request.path + str(request.query)
            headers = [name for name, value in request.headers.items() if key in value]
            assert headers == (["x-goog-api-key"] if request.path.startswith(API) else [])
    database.close()
    assert key not in "".join(said)
    assert key not in caplog.text
    assert key.encode() not in store_bytes(tmp_path)
    assert settings.key_fingerprint.encode() in store_bytes(tmp_path)


def store_bytes(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.iterdir())
