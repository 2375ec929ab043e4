"""Read the fields and pictures of a form into memory within limits, never into a file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from urllib.parse import parse_qsl

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from collector.errors import PictureError
from store.video_links import video_id_in
from thumbtune.ui.uploads import MAX_BYTES, TooManyUploads, Uploads

__all__ = ["MAX_TITLES", "Sent", "day", "one_of", "read_fields", "read_form", "read_titles", "video_id", "whole"]

MAX_TITLES = 50
_LONGEST_TITLE = 500
FIELDS_IN_S = 10.0
"""Seconds in which a form without files has to arrive. Anybody can send one to the login page."""
PICTURES_IN_S = 30.0
"""Seconds in which a form with pictures has to arrive."""
_MOST_FILES = 3
_MOST_PARTS = 40
_FIELD_BYTES = 64 << 10
_MALFORMED = (ValueError, RuntimeError, HttpProcessingError, web.RequestPayloadError)
"""What aiohttp raises for malformed forms: also for the headers of a part (HttpProcessingError), and for a field
`_charset_` that is too long (RuntimeError)."""
_ID = re.compile(r"[\w-]{1,64}", re.ASCII)


@dataclass
class Sent:
    """A form.

    Args:
        fields: (name, value) in order.
        uploads: names of the uploaded pictures.
        problems: why pictures were refused.
    """

    fields: list[tuple[str, str]] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for key, value in self.fields if key == name]

    def first(self, name: str) -> str:
        """Return a field's first value; empty if it was not sent."""
        return next(iter(self.all(name)), "")


async def read_fields(request: web.Request) -> Sent:
    """Read a form without files, of at most the application's `client_max_size`.

    Raises:
        web.HTTPRequestTimeout: the form does not arrive in time.
        web.HTTPRequestEntityTooLarge: the form is too large.
        web.HTTPUnsupportedMediaType: the request is not a URL-encoded form.
        web.HTTPBadRequest: the form is truncated, has too many fields, or is not UTF-8.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType(text="send a form (application/x-www-form-urlencoded)")
    async with _arriving(FIELDS_IN_S):
        text = (await request.read()).decode("utf-8")
        return Sent(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARTS))


async def read_form(request: web.Request, uploads: Uploads) -> Sent:
    """Read a form with pictures.

    Raises:
        web.HTTPRequestTimeout: the form does not arrive in time.
        web.HTTPRequestEntityTooLarge: the form has too many or too large parts.
        web.HTTPUnsupportedMediaType: the request is not a multipart form.
        web.HTTPBadRequest: the form is truncated, or not UTF-8.
        web.HTTPServiceUnavailable: other visitors are sending too many pictures.
    """
    if request.content_type != "multipart/form-data":
        raise web.HTTPUnsupportedMediaType(text="send a form (multipart/form-data)")
    try:
        with uploads.arriving() as count:
            async with _arriving(PICTURES_IN_S):
                return await _read(request, uploads, count)
    except TooManyUploads as error:
        raise web.HTTPServiceUnavailable(text="too many pictures arrive at the same time; try again soon") from error


@asynccontextmanager
async def _arriving(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"the form did not arrive within {seconds:.0f} s") from error
    except (*_MALFORMED, ConnectionError) as error:
        raise web.HTTPBadRequest(text="the form can't be read; send it again") from error


async def _read(request: web.Request, uploads: Uploads, count: Callable[[int], None]) -> Sent:
    sent = Sent()
    contents: list[tuple[str, bytes]] = []
    parts = 0
    async for part in await request.multipart():
        parts += 1
        if parts > _MOST_PARTS or not isinstance(part, BodyPartReader):
            raise web.HTTPRequestEntityTooLarge(MAX_BYTES, text="the form has too many parts")
        if part.filename is None:
            value = await _content(part, _FIELD_BYTES, count)
            sent.fields.append((part.name or "", value.decode("utf-8")))
        elif part.filename or part.name:
            content = await _content(part, MAX_BYTES, count)
            if content:
                contents.append((part.filename or "the picture", content))
            if len(contents) > _MOST_FILES:
                raise web.HTTPRequestEntityTooLarge(MAX_BYTES, text=f"at most {_MOST_FILES} pictures can be sent")
    for name, content in contents:
        try:
            sent.uploads.append(await uploads.add(content))
        except PictureError as error:
            sent.problems.append(f"{name} can't be used: {error}")
    return sent


async def _content(part: BodyPartReader, most: int, count: Callable[[int], None]) -> bytes:
    read = bytearray()
    while chunk := await part.read_chunk():
        count(len(chunk))
        read += chunk
        if len(read) > most:
            raise web.HTTPRequestEntityTooLarge(
                most,
                text=f"a picture may have at most {MAX_BYTES >> 20} MiB, and a field at most {_FIELD_BYTES >> 10} KiB",
            )
    return bytes(read)


def read_titles(text: str) -> tuple[list[str], int]:
    """Return the titles in a text (one per line, without duplicates, at most `MAX_TITLES`), and the number left out."""
    # Remove lone surrogates and NULs, which browsers don't send and tokenizers don't accept.
    text = text.encode("utf-8", "ignore").decode().replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    titles = list(dict.fromkeys(title for line in text.split("\n") if (title := line.strip()[:_LONGEST_TITLE].strip())))
    return titles[:MAX_TITLES], max(0, len(titles) - MAX_TITLES)


def video_id(text: str) -> str | None:
    """Return the text if it is a video id, or the id in a YouTube URL; None for anything else."""
    text = text.strip()
    return text if _ID.fullmatch(text) else video_id_in(text[:500])


def one_of(value: str | None, allowed: tuple[str, ...]) -> str | None:
    """Return a query parameter if it is an allowed value."""
    return value if value in allowed else None


def day(value: str | None) -> date | None:
    """Parse a date in a query (YYYY-MM-DD); None for anything else."""
    try:
        return date.fromisoformat(value or "")
    except ValueError:
        return None


def whole(value: str | None, default: int, least: int, most: int) -> int:
    """Parse a non-negative integer in a query, limited to bounds; the default for anything else."""
    if value is None or not re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return default
    return min(max(int(value), least), most)
