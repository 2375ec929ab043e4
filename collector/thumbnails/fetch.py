"""Fetches and verifies thumbnails, from allowed hosts only, in the preferred size or the next best.

YouTube's thumbnail hosts must have public addresses; hosts that the user allows may have any address.
"""

from __future__ import annotations

import asyncio
import ctypes
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from yarl import URL

from collector.errors import BadAnswer, NetworkError, PictureError, TransientError, Unavailable
from collector.http import Answer, Http, InFlight, Request
from collector.thumbnails.check import CheckedPicture, LargeDecoder, check_picture, is_quick
from collector.thumbnails.decode import set_up_pillow
from store.youtube import FailedPicture, FetchedPicture, PictureJob, PictureOutcome, UnchangedPicture

__all__ = ["QUICK_A_STEP", "SIZES", "THUMBNAIL_CHOICES", "Candidate", "Thumbnails", "candidates", "whose_host"]

SIZES = ("uhd", "qhd", "fhd", "maxres", "standard", "high", "medium", "default")
"""The API's thumbnail sizes, largest first (https://developers.google.com/youtube/v3/docs/thumbnails)."""
THUMBNAIL_CHOICES = ("high", "uhd", "qhd", "fhd", "maxres", "standard", "medium", "default", "best")

MAX_BYTES = 8 << 20
MAX_REDIRECTS = 5
QUICK_A_STEP = 4
"""Quick checks per iteration of the event loop; a higher limit would block the loop for too long."""
DECODERS = 2
"""Threads for decoding. Each may take `LARGE_BYTES`; decoding keeps at most one of them busy."""
MOST_CANDIDATES = 10
MOST_TRANSIENT = 1
"""Transient failures after which the other sizes of a thumbnail are not tried, because the host is the cause."""
LONGEST_URL = 2_000
LONGEST_VALIDATOR = 500
LONGEST_REASON = 500
LARGE_BLOCK_BYTES = 256 << 10
"""Larger than nearly all of YouTube's thumbnails, both as files and as decoded here."""
_M_MMAP_THRESHOLD = -3

_YOUTUBE_HOST = re.compile(r"[a-z0-9.-]+\.(ytimg|ggpht)\.com")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MISSING = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A size of a video's thumbnail. `width` and `height` are the API's values in pixels, or 0 if missing."""

    url: str
    width: int
    height: int

    def is_far_larger_than(self, width: int, height: int) -> bool:
        """Whether an image of this size must be a placeholder.

        For a missing size, the hosts send a grey image of 120x90 pixels with status 200. Among the larger sizes,
        `medium` (320 pixels wide) is the closest to the placeholder.
        """
        return 2 * width <= self.width and 2 * height <= self.height


def candidates(thumbnails: Mapping[str, Any], preferred: str) -> list[Candidate]:
    """The sizes to try in order: the preferred size, then smaller sizes, then larger sizes.

    Returns at most `MOST_CANDIDATES`, and skips URLs longer than `LONGEST_URL`.
    """
    first = SIZES[0] if preferred == "best" else preferred
    place = SIZES.index(first)
    order = [*SIZES[place:], *reversed(SIZES[:place])]
    found: dict[str, Candidate] = {}
    for size in [*order, *sorted(thumbnails.keys() - set(SIZES))]:
        entry = thumbnails.get(size)
        url = entry.get("url") if isinstance(entry, dict) else None
        if isinstance(entry, dict) and isinstance(url, str) and 0 < len(url) <= LONGEST_URL:
            found.setdefault(url, Candidate(url, _pixels(entry.get("width")), _pixels(entry.get("height"))))
    return list(found.values())[:MOST_CANDIDATES]


def _pixels(announced: object) -> int:
    return announced if isinstance(announced, int) and 0 < announced < 1 << 16 else 0


def whose_host(url: str, extra_hosts: tuple[str, ...]) -> Literal["chosen", "youtube"] | None:
    """Whether a thumbnail URL's host was chosen by the user or is YouTube's (only with https); None if not allowed.

    `extra_hosts` contains `host` (any port) or `host:port`, for http and https.
    """
    place = _place(url)
    if place is None:
        return None
    scheme, host, port = place
    shown = f"[{host}]" if ":" in host else host
    if shown in extra_hosts or f"{shown}:{port}" in extra_hosts:
        return "chosen"
    return "youtube" if (scheme, port) == ("https", 443) and _YOUTUBE_HOST.fullmatch(host) else None


def _place(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an http or https URL; None if parsers could disagree about it."""
    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        URL(url)  # the parser that requests use
    except ValueError:
        return None
    if not host or parts.scheme not in ("http", "https") or parts.username is not None:
        return None
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return parts.scheme, host, port


@dataclass(frozen=True, slots=True)
class _Response:
    """A response of a thumbnail host."""

    kind: Literal["picture", "unchanged", "missing", "redirect"]
    body: bytes = b""
    location: str = ""
    etag: str | None = None
    last_modified: str | None = None


def _return_large_blocks() -> None:
    """Make glibc return large freed blocks to the system, so that a large image does not enlarge a service permanently.

    By default, glibc raises its threshold to the size of the last freed block, up to 32 MiB, and keeps smaller blocks
    in per-thread arenas (mallopt(3), M_MMAP_THRESHOLD). Other C libraries are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS; Windows
        return
    mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


class Thumbnails:
    """Fetches thumbnails. Decodes on dedicated threads if that takes long. Call `close` when done."""

    def __init__(self, http: Http, extra_hosts: tuple[str, ...]) -> None:
        set_up_pillow()
        _return_large_blocks()
        self._http = http
        self._extra_hosts = extra_hosts
        self._in_flight = InFlight()
        self._quick = asyncio.Semaphore(QUICK_A_STEP)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._large = LargeDecoder()

    def close(self) -> None:
        """Stop the decoding threads and abort their work."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._large.close()

    async def fetch(self, job: PictureJob, preferred: str) -> tuple[PictureOutcome, bool]:
        """Fetch a video's thumbnail in the first size that works.

        A refresh requests the preferred size again, so that a smaller substitute does not stay forever. If the size of
        a stored thumbnail fails transiently, no other size is tried, because another size would look like a change.

        Returns:
            The outcome, and whether it is a transient failure (the host can't be reached or is unavailable). A bad
            thumbnail raises no exception; the outcome contains the reason. If no size can be fetched, the outcome is a
            transient failure if there was one, because a retry may succeed; otherwise the first failure that is not a
            missing size.
        """
        sizes = candidates(job.thumbnails, preferred)
        # The errors themselves are not kept, because their tracebacks hold the response bodies.
        failures: list[tuple[FailedPicture, bool]] = []
        placeholders: set[str] = set()
        for size in sizes:
            try:
                outcome = await self._fetch_size(job, size, placeholders)
            except PictureError as error:
                failures.append(_failed(job, error))
                transient = sum(is_transient for _, is_transient in failures)
                if failures[-1][1] and (size.url == job.url or transient > MOST_TRANSIENT):
                    break
                continue
            if outcome is not None:
                return outcome, False
        if not failures:
            reason = "no thumbnail size is available (404)" if sizes else "the API lists no thumbnail"
            failures.append((FailedPicture(job.video_id, sizes[0].url if sizes else None, reason), False))
        return next((failure for failure in failures if failure[1]), failures[0])

    async def _fetch_size(self, job: PictureJob, size: Candidate, placeholders: set[str]) -> PictureOutcome | None:
        """Fetch one size; None if it is missing. `placeholders` collects the digests of placeholder images."""
        got = await self._get(size.url, job)
        if got.kind == "missing":
            return None
        if got.kind == "unchanged":
            return UnchangedPicture(job.video_id)
        try:
            checked = await self._check(got.body)
        except PictureError as error:
            raise PictureError(str(error), url=size.url) from error
        if size.is_far_larger_than(checked.width, checked.height):
            placeholders.add(checked.sha256)
        if checked.sha256 in placeholders:
            return None
        return FetchedPicture(
            video_id=job.video_id,
            url=size.url,
            data=got.body,
            sha256=checked.sha256,
            mime=checked.mime,
            width=checked.width,
            height=checked.height,
            etag=got.etag,
            last_modified=got.last_modified,
        )

    async def _check(self, data: bytes) -> CheckedPicture:
        if is_quick(data):
            async with self._quick:
                checked = check_picture(data)
                await asyncio.sleep(0)
            return checked
        return await asyncio.get_running_loop().run_in_executor(self._decoders, check_picture, data, self._large)

    async def _ask(self, request: Request) -> _Response:
        """Send a request when the limit of concurrent requests allows it; refusals lower the limit."""
        flow = self._in_flight.flow
        async with self._in_flight.place() as sent_after:

            def failed(error: TransientError) -> None:
                if isinstance(error, NetworkError | Unavailable):
                    flow.refused(sent_after)

            got = await self._http.get(request, _read, failed=failed)
            flow.answered()
            return got

    async def _get(self, url: str, job: PictureJob) -> _Response:
        """Request one size and follow redirects here, because each target must be an allowed host."""
        headers = _conditions(job) if url == job.url else ()
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            chosen_by = whose_host(place, self._extra_hosts)
            if chosen_by is None:
                raise PictureError(
                    f"{_host(place)} is not an allowed thumbnail host (see THUMBTUNE_THUMBNAIL_HOSTS)", url=url
                )
            try:
                # A host that the user chose may have any address.
                request = Request(place, headers=headers, max_bytes=MAX_BYTES, public_only=chosen_by != "chosen")
                got = await self._ask(request)
            except TransientError as error:
                raise PictureError(str(error), url=url) from error
            except PictureError as error:
                raise PictureError(str(error), url=url) from error
            if got.kind != "redirect":
                return got
            try:
                place = urljoin(place, got.location)
            except ValueError as error:
                raise PictureError("redirected to an invalid URL", url=url) from error
        raise PictureError(f"more than {MAX_REDIRECTS} redirects", url=url)


def _failed(job: PictureJob, error: PictureError) -> tuple[FailedPicture, bool]:
    """The outcome to store, and whether the failure is transient."""
    reason = _storable(str(error))[:LONGEST_REASON]
    return FailedPicture(job.video_id, error.url, reason), isinstance(error.__cause__, NetworkError | Unavailable)


def _read(answer: Answer) -> _Response:
    headers = answer.headers
    if answer.status == 200:
        if not answer.complete:
            raise PictureError(f"more than {MAX_BYTES >> 20} MiB")
        if answer.body[:1] == b"<" and "html" in headers.get("Content-Type", ""):
            # An error page or a captive portal's login page with status 200; usually temporary.
            raise BadAnswer("sent HTML instead of an image")
        return _Response(
            "picture",
            answer.body,
            etag=_validator(headers.get("ETag")),
            last_modified=_validator(headers.get("Last-Modified")),
        )
    if answer.status == 304:
        return _Response("unchanged")
    if answer.status in _MISSING:
        return _Response("missing")
    location = headers.get("Location", "")
    if answer.status in _REDIRECTS and location:
        return _Response("redirect", location=location)
    raise PictureError(f"the thumbnail host answered {answer.status}")


def _validator(value: str | None) -> str | None:
    """A validator (ETag or Last-Modified) to store; None if it is missing, not printable ASCII, or too long."""
    if value is None or len(value) > LONGEST_VALIDATOR or not (value.isascii() and value.isprintable()):
        return None
    return value


def _conditions(job: PictureJob) -> tuple[tuple[str, str], ...]:
    # RFC 9110, section 13.1.3: a server that receives both uses only the ETag.
    conditions = (("If-None-Match", job.etag), ("If-Modified-Since", job.last_modified))
    return tuple((name, value) for name, value in conditions if value)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2][:100] or url[:100]
    except ValueError:
        return url[:100]


def _storable(text: str) -> str:
    """Escape unprintable characters, such as the surrogates for invalid UTF-8 in headers, which can't be stored."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
