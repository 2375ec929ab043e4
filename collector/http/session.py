"""HTTP: one session, bounded retries, bounded answers. The one place where aiohttp's errors end.

What heals by itself (connection errors, timeouts, 5xx, 429, answers that can't be read) is tried again, with
exponential pauses and full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/); a
`Retry-After` header (RFC 9110, section 10.2.3) is honoured up to a bound. Redirects are never followed here: who asks
decides.
"""

from __future__ import annotations

import asyncio
import email.utils
import io
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

__all__ = ["LARGE_BYTES", "Answer", "Http", "Pauses", "Request"]

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRIED_STATUSES = frozenset({408, 425, 429})
CHUNK_BYTES = 1 << 16
LARGE_BYTES = 512 << 10
LARGE_AT_ONCE = 1
"""So many bodies of more than `LARGE_BYTES` are held at a time: a dozen endless ones must not fill the memory. No real
thumbnail is so large, and an answer of the API hardly ever."""


@dataclass(frozen=True, slots=True)
class Request:
    """A GET. `max_bytes` bounds the body, after decompression.

    `public_only`: a stranger named the host, so only public addresses are connected to (see `PublicOnly`).
    `explains_429`: whoever reads the answers understands the JSON body of a 429 and decides whether to try again.
    """

    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    max_bytes: int = 16 << 20
    public_only: bool = False
    explains_429: bool = False

    @property
    def host(self) -> str:
        """Who is asked; for messages."""
        try:
            return URL(self.url).authority or self.url
        except ValueError:
            return self.url


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. Header names compare without case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool
    """False when the body was longer than `max_bytes`; `body` is empty then."""


@dataclass(frozen=True, slots=True)
class Pauses:
    """How often to try, and how long to wait in between: a random part of `first_s` x 2^n, at most `longest_s`."""

    tries: int = 5
    first_s: float = 0.5
    longest_s: float = 20.0
    longest_asked_s: float = 60.0
    """A longer Retry-After is cut to this."""

    def before(self, attempt: int, asked_s: float | None, draw: Callable[[], float]) -> float:
        """Seconds to wait after failed attempt number `attempt` (1, 2, ...)."""
        drawn = draw() * min(self.longest_s, self.first_s * 2.0 ** (attempt - 1))
        return drawn if asked_s is None else max(drawn, min(asked_s, self.longest_asked_s))


@dataclass
class _Turn:
    """Whether one of `LARGE_AT_ONCE` was taken."""

    taken: bool = False


@dataclass(slots=True)
class _Sent:
    """How many requests one try has sent: aiohttp repeats one by itself when a kept connection turns out closed."""

    requests: int = 0


# That of the `Http.turn` which the request in hand is made in.
_turn: ContextVar[_Turn | None] = ContextVar("turn", default=None)


class Http:
    """A session. `requests` counts what was sent, whoever repeated it.

    Args:
        pauses: the retry policy.
        sleep, draw: the clock and the dice; injected so that tests neither wait nor gamble.
        timeout_s: for one request from start to end.
        resolver: who looks names up; the system by default.
    """

    def __init__(
        self,
        *,
        pauses: Pauses | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
        timeout_s: float = 60.0,
        connections: int = 96,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self.requests = 0
        self._pauses = pauses or Pauses()
        self._sleep = sleep
        self._draw = draw
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(15.0, timeout_s))
        self._connections = connections
        self._resolver = resolver
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._proxies: dict[tuple[str, str | None], URL | None] = {}
        self._session: aiohttp.ClientSession | None = None
        self._public: aiohttp.ClientSession | None = None
        self._guard: PublicOnly | None = None

    async def __aenter__(self) -> Self:
        self._session = self._new_session(self._resolver)
        # Of its own, so that no connection is shared with one that was made unchecked.
        self._guard = PublicOnly(self._resolver)
        self._public = self._new_session(self._guard)
        return self

    def _new_session(self, resolver: AbstractResolver | None) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._count)
        return aiohttp.ClientSession(
            trace_configs=[trace],
            connector=aiohttp.TCPConnector(limit=self._connections, resolver=resolver),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1 << 14,  # for each connection, and dozens may wait for their turn to be read
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
        """A block that holds on to what it fetches: a large body in it counts until the block ends.

        Outside of one, a body counts until it is read.
        """
        turn = _Turn()
        token = _turn.set(turn)
        try:
            yield
        finally:
            _turn.reset(token)
            self._end(turn)

    async def _take(self, turn: _Turn) -> None:
        if not turn.taken:
            await self._large.acquire()
            turn.taken = True

    def _end(self, turn: _Turn) -> None:
        if turn.taken:
            turn.taken = False
            self._large.release()

    async def get(
        self,
        request: Request,
        read: Callable[[Answer], T],
        *,
        lost: Callable[[int], None] = lambda _: None,
        failed: Callable[[TransientError], None] = lambda _: None,
    ) -> T:
        """Send a request until `read` can make something of the answer.

        Args:
            request: what to ask.
            read: gets every answer but 5xx, 408, 425 and 429 (see `Request.explains_429`), and raises `TransientError`
                for one that is worth another try.
            lost: told, after each try, how many requests were sent whose answers did not come, or not whole; also
                when the caller is cancelled while one is under way.
            failed: told of each try that failed; there is no other when it raises an error.

        Raises:
            NetworkError, BadAnswer: still not after the last try.
            CollectorError: whatever else `read` raises, or `failed`, at once.
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
                    raise type(error)(
                        f"{request.host}: {error}, {attempt} times; check the network, or try again later"
                    ) from error
                if (block := _turn.get()) is not None:
                    self._end(block)  # what was read of it is let go
                pause = self._pauses.before(attempt, error.retry_after_s, self._draw)
                log.info("%s: %s; try %d follows in %.1f s", request.host, error, attempt + 1, pause)
            attempt += 1
            await self._sleep(pause)

    async def _count(self, _session: aiohttp.ClientSession, context: SimpleNamespace, _parameters: object) -> None:
        # Counted here and not in `_send`: of what aiohttp repeats by itself, nobody else knows.
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
            raise BadAnswer("named an invalid URL") from error
        proxy = self._proxy(url)
        try:
            async with session.get(
                url,
                params=request.params or None,
                headers=dict(request.headers),
                allow_redirects=False,
                proxy=proxy,
                trace_request_ctx=sent,
            ) as response:
                body, complete = await self._body(response, request.max_bytes)
                log.debug("GET %s: %d, %d bytes", response.url, response.status, len(body))
                return Answer(str(response.url), response.status, response.headers, body, complete)
        except TimeoutError as error:
            raise NetworkError("no answer in time") from error
        except aiohttp.ClientPayloadError as error:
            raise NetworkError("the answer breaks off") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise NetworkError("its certificate is not valid") from error
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, NotPublic):
                raise NetworkError("the name leads to no public address") from error
            raise NetworkError("the name can't be found") from error
        except aiohttp.ClientConnectorError as error:
            raise NetworkError("can't be reached") from error
        except aiohttp.ServerDisconnectedError as error:
            raise NetworkError("the connection was closed without an answer") from error
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            raise BadAnswer("the answer is not HTTP as it should be") from error
        except (aiohttp.ClientError, OSError, ssl.SSLError) as error:
            raise NetworkError("the connection broke") from error

    def _proxy(self, url: URL) -> URL | None:
        """The proxy that the environment names for a host, if any.

        With `trust_env`, aiohttp looks it up anew for each request, and passwords in `.netrc` besides, in a thread: a
        third of a sync's time. A proxy's password belongs in its address.

        Raises:
            BadSetting: what the environment names can't be used.
        """
        place = url.scheme, url.host
        if place not in self._proxies:
            bypassed = url.host is None or proxy_bypass(url.host)
            named = None if bypassed else getproxies().get(url.scheme)
            self._proxies[place] = None if not named else _proxy_address(named, url.scheme)
        return self._proxies[place]

    async def _body(self, response: aiohttp.ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
        """The body, read piece by piece so that no server decides how much memory it takes."""
        announced = response.content_length
        if announced is not None and announced > max_bytes:
            response.close()
            return b"", False
        # Grows in place and gives its bytes away without a copy: joining pieces would take the memory twice.
        body, size = io.BytesIO(), 0
        block = _turn.get()
        turn = block or _Turn()
        try:
            if announced is not None and announced > LARGE_BYTES:
                # Before the first piece: each of those that wait would hold `LARGE_BYTES`.
                await self._take(turn)
            async for piece in response.content.iter_chunked(CHUNK_BYTES):
                size += len(piece)
                if size > LARGE_BYTES:
                    await self._take(turn)
                if size > max_bytes:
                    response.close()
                    return b"", False
                body.write(piece)
            return body.getvalue(), True
        finally:
            if block is None:
                self._end(turn)


def _proxy_address(named: str, scheme: str) -> URL:
    try:
        proxy = URL(named)
    except ValueError:  # whose message quotes all of it
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # Not quoted: there may be a password in it.
        raise BadSetting(f"{scheme}_proxy names no proxy that can be used; write http://HOST:PORT, or unset it")
    return proxy


def _check_status(answer: Answer, request: Request) -> None:
    """Raise `Unavailable` for a status that another try may heal, whatever the body is."""
    if answer.status < 500 and answer.status not in RETRIED_STATUSES:
        return
    # The Data API answers a spent daily quota with 429 at times; no other host explains a 429 in a way that we know.
    if answer.status == 429 and request.explains_429 and b'"error"' in answer.body:
        return
    raise Unavailable(f"answered {answer.status}", retry_after_s=retry_after_s(answer.headers))


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """The Retry-After header in seconds from now, of either form (seconds, or a date); None without a usable one."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the second for a year or an offset of too many digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
