"""The stand-in server: YouTube's Data API, feed and thumbnail host on a loopback port."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Middleware

from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.errors import StandInError
from thumbtune.standin.quota import Quota
from thumbtune.standin.site import Site

__all__ = ["StandIn"]

HOST = "127.0.0.1"
DEFAULT_KEY = "stand-in-key"


class StandIn:
    """Serves channels on 127.0.0.1.

    Use `async with` to serve from the running event loop, or `with` to serve from a separate thread; not both, and each
    instance only once. Catalogues may be changed from any thread at any time.

    Args:
        catalogues: the channels, with different ids.
        keys: the valid API keys; None accepts any key that is not empty.
        daily_limit: units that each key may spend (None: no limit); `quota.limit` changes it later.
        feed_lag: number of the newest videos that the feed does not show yet; also an attribute.
        port: the port to listen on; 0 selects a free port.
        middlewares: aiohttp middlewares around every request, the outermost first.

    Attributes:
        quota: counts the spent units.

    Raises:
        ValueError: there is no channel, or two channels have the same id.
    """

    def __init__(
        self,
        *catalogues: Catalogue,
        keys: Iterable[str] | None = None,
        daily_limit: int | None = None,
        feed_lag: int = 0,
        port: int = 0,
        middlewares: Sequence[Middleware] = (),
    ) -> None:
        ids = [catalogue.channel_id for catalogue in catalogues]
        if not ids or len(set(ids)) != len(ids):
            raise ValueError(f"expected one or more channels with different ids, got {ids!r}")
        self.catalogues = catalogues
        self.quota = Quota(daily_limit)
        self.feed_lag = feed_lag
        self.keys: Collection[str] | None = None if keys is None else frozenset(keys)
        self._wanted_port = port
        self._middlewares = middlewares
        self._port: int | None = None
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that the server listens on.

        Raises:
            RuntimeError: the server was not started.
        """
        if self._port is None:
            raise RuntimeError("the stand-in server is not started; use it in a with statement")
        return self._port

    @property
    def url(self) -> str:
        """The root URL, `http://127.0.0.1:PORT`."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """The Data API's base URL, `http://127.0.0.1:PORT/youtube/v3`."""
        return f"{self.url}/youtube/v3"

    @property
    def feed_url(self) -> str:
        """The feed's URL, without the query `?channel_id=ID`."""
        return f"{self.url}/feeds/videos.xml"

    @property
    def thumbnail_host(self) -> str:
        """Host and port of the thumbnails."""
        return f"{HOST}:{self.port}"

    @property
    def units(self) -> int:
        """Quota units spent so far, by all keys."""
        return self.quota.total

    def environment(self, key: str = DEFAULT_KEY) -> dict[str, str]:
        """The environment variables that make thumbtune use this server."""
        return {
            "YOUTUBE_API_KEY": key,
            "THUMBTUNE_API_URL": self.api_url,
            "THUMBTUNE_FEED_URL": self.feed_url,
            "THUMBTUNE_THUMBNAIL_HOSTS": self.thumbnail_host,
        }

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="stand-in", daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self, started: Future[None]) -> None:
        async def serve() -> None:
            try:
                await self._start()
            except BaseException as error:
                started.set_exception(error)
                return
            started.set_result(None)
            assert self._stop is not None
            await self._stop.wait()
            await self._close()

        asyncio.run(serve())

    async def _start(self) -> None:
        if self._loop is not None:
            raise RuntimeError("a stand-in server can't be started twice; create a new instance")
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        app = Site(self).application(self._middlewares)
        # Cancellation tells a middleware that delays an answer that its client has disconnected.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self._wanted_port, backlog=512)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            message = f"can't listen on {HOST}:{self._wanted_port} ({error.strerror}); choose another port"
            raise StandInError(message) from error
        self._port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
