"""Fetch and check one thumbnail: from allowed hosts only, of bounded size, in the preferred size or the next best.

YouTube's picture hosts are reached at public addresses only; a host that the user allows may be anywhere.
"""

from __future__ import annotations

import asyncio
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
from collector.thumbnails.memory import return_large_blocks
from store.youtube import FailedPicture, FetchedPicture, PictureJob, PictureOutcome, UnchangedPicture

__all__ = ["QUICK_A_STEP", "SIZES", "THUMBNAIL_CHOICES", "Candidate", "Thumbnails", "candidates", "is_allowed"]

SIZES = ("uhd", "qhd", "fhd", "maxres", "standard", "high", "medium", "default")
"""From largest to smallest (https://developers.google.com/youtube/v3/docs/thumbnails)."""
THUMBNAIL_CHOICES = ("high", "uhd", "qhd", "fhd", "maxres", "standard", "medium", "default", "best")

MAX_BYTES = 8 << 20
MAX_REDIRECTS = 5
QUICK_A_STEP = 4
"""So many quick checks are done in one step of the event loop: with all that have come, it would be late."""
DECODERS = 2
"""Threads: each may take `LARGE_BYTES` at a time, and decoding keeps no more than one busy beside the event loop."""
MOST_CANDIDATES = 10
MOST_TRANSIENT = 1
"""So many sizes of a thumbnail may fail transiently before the others are left alone: it is the host's fault then."""
LONGEST_URL = 2_000
LONGEST_VALIDATOR = 500
LONGEST_REASON = 500

_YOUTUBE_HOST = re.compile(r"[a-z0-9.-]+\.(ytimg|ggpht)\.com")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MISSING = frozenset({404, 410})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One size that a video's thumbnail may be fetched in; `width` and `height` in pixels as announced, else 0."""

    url: str
    width: int
    height: int

    def is_far_larger_than(self, width: int, height: int) -> bool:
        """Whether a picture of this size can't be what was announced.

        Hosts send a grey 120x90 placeholder with status 200 for a size that they don't have. The smallest ratio of an
        announced width to the placeholder's is that of `medium` (320 pixels).
        """
        return 2 * width <= self.width and 2 * height <= self.height


def candidates(thumbnails: Mapping[str, Any], preferred: str) -> list[Candidate]:
    """The sizes to try, best first: the preferred one, then the smaller ones, then the larger ones.

    At most `MOST_CANDIDATES` of them, and none with a URL longer than `LONGEST_URL`.
    """
    wanted = SIZES[0] if preferred == "best" else preferred
    place = SIZES.index(wanted)
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


def is_allowed(url: str, extra_hosts: tuple[str, ...]) -> bool:
    """Whether a thumbnail may be fetched from here: YouTube's picture hosts by https, and those the user allows.

    `extra_hosts`: `host` (any port) or `host:port`; these by http, too.
    """
    return _whose_host(url, extra_hosts) is not None


def _whose_host(url: str, extra_hosts: tuple[str, ...]) -> Literal["chosen", "youtube"] | None:
    """Whether an address is at a host that the user chose, or at YouTube's; None: it is not allowed."""
    place = _place(url)
    if place is None:
        return None
    scheme, host, port = place
    shown = f"[{host}]" if ":" in host else host
    if shown in extra_hosts or f"{shown}:{port}" in extra_hosts:
        return "chosen"
    return "youtube" if (scheme, port) == ("https", 443) and _YOUTUBE_HOST.fullmatch(host) else None


def _place(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an http or https address; None for one that two parsers could read differently."""
    if not url.isprintable() or " " in url or "\\" in url:
        return None
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        URL(url)  # the one that requests are made with
    except ValueError:
        return None
    if not host or parts.scheme not in ("http", "https") or parts.username is not None:
        return None
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return parts.scheme, host, port


@dataclass(frozen=True, slots=True)
class _Got:
    """One answer of a picture host."""

    kind: Literal["picture", "unchanged", "missing", "redirect"]
    body: bytes = b""
    location: str = ""
    etag: str | None = None
    last_modified: str | None = None


class Thumbnails:
    """Fetches thumbnails; what takes long to decode is decoded on threads of its own. Call `close` when done."""

    def __init__(self, http: Http, extra_hosts: tuple[str, ...]) -> None:
        set_up_pillow()
        return_large_blocks()
        self._http = http
        self._extra_hosts = extra_hosts
        self._in_flight = InFlight()
        self._quick = asyncio.Semaphore(QUICK_A_STEP)
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._large = LargeDecoder()

    def close(self) -> None:
        """Let the decoding threads go, and abandon what they decode."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._large.close()

    async def fetch(self, job: PictureJob, preferred: str) -> tuple[PictureOutcome, bool]:
        """Fetch one video's thumbnail, and whether its host could not be reached, or could not serve it.

        The first size that can be fetched is taken; whatever is wrong with one, the next is tried. A refresh asks for
        the preferred size again, so that a smaller one that took its place does not stay for ever. Where a thumbnail is
        stored, a transient failure of its size leaves it as it is: another size would look like a change.

        Returns:
            The outcome, and whether it is a transient failure. Never raises for a bad thumbnail: that is an outcome,
            with its reason. If no size can be fetched, that is a transient one if there is any, as another try may heal
            it; else the first that is not just missing.
        """
        sizes = candidates(job.thumbnails, preferred)
        # Not the errors: their tracebacks hold the bodies.
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
            reason = "no thumbnail size is available (404)" if sizes else "the API names no thumbnail"
            failures.append((FailedPicture(job.video_id, sizes[0].url if sizes else None, reason), False))
        return next((failure for failure in failures if failure[1]), failures[0])

    async def _fetch_size(self, job: PictureJob, size: Candidate, placeholders: set[str]) -> PictureOutcome | None:
        """One size; None when it is missing. `placeholders`: digests of what was sent instead of larger sizes."""
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

    async def _ask(self, request: Request) -> _Got:
        """Send one request when there is a place for it; what its host bears decides how many places there are."""
        flow = self._in_flight.flow
        async with self._in_flight.place() as sent_after:

            def failed(error: TransientError) -> None:
                if isinstance(error, NetworkError | Unavailable):
                    flow.refused(sent_after)

            got = await self._http.get(request, _read, failed=failed)
            flow.answered()
            return got

    async def _get(self, url: str, job: PictureJob) -> _Got:
        """One size, redirects followed by hand: each step has to be allowed."""
        headers = _conditions(job) if url == job.url else ()
        place = url
        for _ in range(MAX_REDIRECTS + 1):
            whose = _whose_host(place, self._extra_hosts)
            if whose is None:
                raise PictureError(
                    f"{_host(place)} is no allowed picture host (THUMBTUNE_THUMBNAIL_HOSTS allows more)", url=url
                )
            try:
                # A host of the user's own choice may be anywhere.
                request = Request(place, headers=headers, max_bytes=MAX_BYTES, public_only=whose != "chosen")
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
    """What the store keeps; and whether the host could not be reached, or said that it can't answer now."""
    reason = _storable(str(error))[:LONGEST_REASON]
    return FailedPicture(job.video_id, error.url, reason), isinstance(error.__cause__, NetworkError | Unavailable)


def _read(answer: Answer) -> _Got:
    headers = answer.headers
    if answer.status == 200:
        if not answer.complete:
            raise PictureError(f"more than {MAX_BYTES >> 20} MiB")
        if answer.body[:1] == b"<" and "html" in headers.get("Content-Type", ""):
            # An error page, or a network's login page, that claims to be what was asked for: it passes.
            raise BadAnswer("sent a page of HTML instead of a picture")
        return _Got(
            "picture",
            answer.body,
            etag=_validator(headers.get("ETag")),
            last_modified=_validator(headers.get("Last-Modified")),
        )
    if answer.status == 304:
        return _Got("unchanged")
    if answer.status in _MISSING:
        return _Got("missing")
    location = headers.get("Location", "")
    if answer.status in _REDIRECTS and location:
        return _Got("redirect", location=location)
    raise PictureError(f"the picture host answered {answer.status}")


def _validator(value: str | None) -> str | None:
    """A header worth sending back; None if it is not text, or too long."""
    if value is None or len(value) > LONGEST_VALIDATOR or not (value.isascii() and value.isprintable()):
        return None
    return value


def _conditions(job: PictureJob) -> tuple[tuple[str, str], ...]:
    # RFC 9110, section 13.1.3: a server that gets both looks at the ETag alone.
    conditions = (("If-None-Match", job.etag), ("If-Modified-Since", job.last_modified))
    return tuple((name, value) for name, value in conditions if value)


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.rpartition("@")[2][:100] or url[:100]
    except ValueError:
        return url[:100]


def _storable(text: str) -> str:
    """Headers come with bytes that are no UTF-8 as lone surrogates: visible instead, as no database holds them."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
