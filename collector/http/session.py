"""An HTTP session with bounded retries and response sizes. Converts aiohttp's exceptions to the collector's.

Transient failures (connection errors, timeouts, 5xx, 429, unreadable responses) are retried with exponential backoff
and full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). A `Retry-After` header
(RFC 9110, section 10.2.3) is honoured up to a bound. Redirects are returned to the caller, not followed.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace, TracebackType
from typing import Self, TypeVar
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from collector.errors import BadAnswer, BadSetting, NetworkError, TransientError, Unavailable
from collector.http.addresses import NotPublic, PublicOnly
from collector.http.bodies import LARGE_AT_ONCE, Pace, Turn, read_body
from store.urls import shown_url
from store.wording import counted

__all__ = ["Answer", "Http", "Pauses", "Request", "retry_after_s"]

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRIED_STATUSES = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Request:
    """A GET request.

    Attributes:
        url: the URL, without the parameters of `params`.
        params: query parameters.
        headers: additional request headers.
        max_bytes: the largest body to accept, in bytes after decompression.
        public_only: connect to public addresses only, because the URL is untrusted (see `PublicOnly`).
        explains_429: the caller parses the JSON body of a 429 response and decides whether to retry.
    """

    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    max_bytes: int = 16 << 20
    public_only: bool = False
    explains_429: bool = False

    @property
    def host(self) -> str:
        """The URL's host and port, for messages; without user name and password."""
        try:
            return URL(self.url).authority.rpartition("@")[2] or shown_url(self.url)
        except ValueError:
            return shown_url(self.url)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. Header names are case-insensitive."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool
    """False if the body exceeded `max_bytes`; `body` is then empty."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """The retry policy: pause n is a random part of `first_s` * 2^(n - 1) seconds or, if less, of `longest_s`."""

    tries: int = 5
    first_s: float = 0.5
    longest_s: float = 20.0
    longest_asked_s: float = 60.0
    """The longest `Retry-After` that is honoured; longer values are reduced to it."""

    def before(self, attempt: int, asked_s: float | None, draw: Callable[[], float]) -> float:
        """Seconds to wait after failed attempt `attempt` (1, 2, ...)."""
        drawn = draw() * min(self.longest_s, self.first_s * 2.0 ** (attempt - 1))
        return drawn if asked_s is None else max(drawn, min(asked_s, self.longest_asked_s))


@dataclass(slots=True)
class _Sent:
    """Counts the requests of one attempt: aiohttp resends a request if a kept-alive connection was closed."""

    requests: int = 0


# Set inside an `Http.turn` block, for the requests made in it.
_turn: ContextVar[Turn | None] = ContextVar("turn", default=None)


class Http:
    """An HTTP session. `requests` counts all requests sent, including retries and aiohttp's own resends.

    Args:
        pauses: the retry policy.
        sleep: waits for a number of seconds.
        draw: returns a random number from 0 to 1.
        timeout_s: the total time limit of one request, in seconds.
        pace: the slowest body to accept.
        connections: the most connections of each connection pool.
        resolver: resolves host names; default: the system's.
    """

    def __init__(
        self,
        *,
        pauses: Pauses | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        timeout_s: float = 60.0,
        pace: Pace | None = None,
        connections: int = 96,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.requests = 0
        self._pauses = pauses or Pauses()
        self._sleep = sleep
        self._draw = draw
        self._timeout_s = timeout_s
        self._pace = pace or Pace()
        self._connections = connections
        self._resolver = resolver
        self._large_thumbnails = asyncio.Semaphore(LARGE_AT_ONCE)
        self._large_answers = asyncio.Semaphore(LARGE_AT_ONCE)
        self._proxies: dict[tuple[str, str | None], URL | None] = {}
        self._session: aiohttp.ClientSession | None = None
        self._public: aiohttp.ClientSession | None = None
        self._guard: PublicOnly | None = None

    async def __aenter__(self) -> Self:
        self._session = self._new_session(self._resolver)
        # A separate session, so that no request reuses a connection whose address was not checked.
        self._guard = PublicOnly(self._resolver)
        self._public = self._new_session(self._guard)
        return self

    def _new_session(self, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._count)
        return aiohttp.ClientSession(
            trace_configs=[trace],
            connector=aiohttp.TCPConnector(limit=self._connections, resolver=resolver),
            # The total is limited in `_send`.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(15.0, self._timeout_s)),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1 << 14,  # small, because dozens of connections may wait to be read
            headers={"User-Agent": "thumbtune (gzip)", "Accept-Encoding": "gzip, deflate"},
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in (self._session, self._public):
            if session is not None:
                await session.close()
        if self._guard is not None:
            await self._guard.close()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Count a large thumbnail that is fetched in this block against `LARGE_AT_ONCE` until the block ends.

        Outside of such a block, a body counts only while it is being read.
        """
        turn = Turn(self._large_thumbnails)
        token = _turn.set(turn)
        try:
            yield
        finally:
            _turn.reset(token)
            turn.end()

    async def get(
        self,
        request: Request,
        read: Callable[[Answer], T],
        *,
        lost: Callable[[int], None] = lambda _: None,
        failed: Callable[[TransientError], None] = lambda _: None,
    ) -> T:
        """Send a request, with retries, and return the result of `read`.

        Args:
            request: the request.
            read: converts a response; called for every status except 5xx, 408, 425 and 429 (see
                `Request.explains_429`). It raises `TransientError` if the request should be retried.
            lost: called after each attempt with the number of requests that got no complete response, also if the
                caller is cancelled during the attempt.
            failed: called with the error of each failed attempt; an exception from it ends the retries.

        Raises:
            NetworkError, BadAnswer: the last attempt failed, too.
            CollectorError: any other error of `read` or `failed`, without a retry.
        """
        attempt = 1
        while True:
            try:
                answer = await self._answer(request, lost)
                _check_status(answer, request)
                return read(answer)
            except TransientError as error:
                failed(error)
                if attempt >= self._pauses.tries:
                    tried = counted(attempt, "attempt")
                    raise type(error)(
                        f"{request.host}: {error} ({tried}); check the network, or try again later"
                    ) from error
                if (block := _turn.get()) is not None:
                    block.end()  # the failed attempt's body is discarded
                pause = self._pauses.before(attempt, error.retry_after_s, self._draw)
                log.info("%s: %s; attempt %d follows in %.1f s", request.host, error, attempt + 1, pause)
            attempt += 1
            await self._sleep(pause)

    async def _count(self, _session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object) -> None:
        # Counted here and not in `_send`, to include the requests that aiohttp resends.
        self.requests += 1
        context.trace_request_ctx.requests += 1

    async def _answer(self, request: Request, lost: Callable[[int], None]) -> Answer:
        sent, answered = _Sent(), 0
        try:
            answer = await self._send(request, sent)
            answered = 1
            return answer
        finally:
            lost(sent.requests - answered)

    async def _send(self, request: Request, sent: _Sent) -> Answer:
        session = self._public if request.public_only else self._session
        assert session is not None, "use Http in an async with statement"
        try:
            url = URL(request.url)
        except ValueError as error:
            raise BadAnswer("the URL is invalid") from error
        proxy = self._proxy(url)
        try:
            async with (
                asyncio.timeout(self._timeout_s) as limit,
                session.get(
                    url,
                    params=request.params or None,
                    headers=dict(request.headers),
                    allow_redirects=False,
                    proxy=proxy,
                    trace_request_ctx=sent,
                ) as response,
            ):
                body, complete = await self._body(response, request.max_bytes, limit)
                log.debug("GET %s: %d, %d bytes", response.url, response.status, len(body))
                return Answer(str(response.url), response.status, response.headers, body, complete)
        except TimeoutError as error:
            raise NetworkError("the request timed out") from error
        except aiohttp.ClientPayloadError as error:
            raise NetworkError("the response is incomplete") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise NetworkError("the TLS certificate is not valid") from error
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, NotPublic):
                raise NetworkError("the host has no public address") from error
            raise NetworkError("the host name can't be resolved") from error
        except aiohttp.ClientConnectorError as error:
            raise NetworkError("can't be reached") from error
        except aiohttp.ServerDisconnectedError as error:
            raise NetworkError("the server closed the connection without a response") from error
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            raise BadAnswer("the response is not valid HTTP") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise NetworkError("the connection broke") from error

    async def _body(
        self, response: aiohttp.ClientResponse, max_bytes: int, limit: asyncio.Timeout
    ) -> tuple[bytes, bool]:
        block = _turn.get()
        turn = block or Turn(self._large_answers)
        try:
            return await read_body(response, max_bytes, self._pace, turn, limit)
        finally:
            if block is None:
                turn.end()

    def _proxy(self, url: URL) -> URL | None:
        """The proxy for a URL from the environment, or None.

        aiohttp's `trust_env` is not used: it looks up the proxy and the passwords in `.netrc` in a thread for each
        request, which took a third of a sync's time. A proxy's password must be in its URL.

        Raises:
            BadSetting: the environment variable is not a usable proxy URL.
        """
        place = url.scheme, url.host
        if place not in self._proxies:
            bypassed = url.host is None or proxy_bypass(url.host)
            named = None if bypassed else getproxies().get(url.scheme)
            self._proxies[place] = None if not named else _proxy_address(named, url.scheme)
        return self._proxies[place]


def _proxy_address(named: str, scheme: str) -> URL:
    try:
        proxy = URL(named)
    except ValueError:  # its message contains the URL
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # The message omits the value, because it may contain a password.
        raise BadSetting(f"{scheme}_proxy is not a usable proxy URL; write http://HOST:PORT, or unset it")
    return proxy


def _check_status(answer: Answer, request: Request) -> None:
    """Raise `Unavailable` for a status that should be retried regardless of the body."""
    if answer.status < 500 and answer.status not in RETRIED_STATUSES:
        return
    # The Data API sometimes reports an exceeded daily quota as 429, with an explanation in JSON.
    if answer.status == 429 and request.explains_429 and b'"error"' in answer.body:
        return
    raise Unavailable(f"answered {answer.status}", retry_after_s=retry_after_s(answer.headers))


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The Retry-After header (seconds or a date) as seconds from now; None if it is missing or invalid."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # OverflowError: the year or the offset has too many digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
