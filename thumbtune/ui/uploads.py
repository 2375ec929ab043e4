"""Uploaded pictures, checked like thumbnails, kept in memory for a while, and never written to disk."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from collector.errors import PictureError
from collector.thumbnails import CheckedPicture, LargeDecoder, check_picture

__all__ = ["MAX_BYTES", "TooManyUploads", "Upload", "Uploads"]

MAX_BYTES = 8 << 20
"""The maximum size of one picture."""
_MOST_ARRIVING = 128 << 20
"""The most bytes of forms that are being received, of all visitors together."""
_MOST = 48
_MOST_BYTES = 96 << 20


class TooManyUploads(Exception):
    """Visitors send more pictures than fit into memory."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded picture.

    Args:
        content: the file's bytes.
        checked: the result of decoding.
    """

    content: bytes
    checked: CheckedPicture


class Uploads:
    """The newest uploads, by random names that only their senders know."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._arriving = 0
        self._checking = asyncio.Semaphore(2)
        self._large = LargeDecoder()

    @contextmanager
    def arriving(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of a form while it is received; yield a function that is called with each number of bytes.

        The function raises TooManyUploads if the forms of all visitors exceed the limit. Nobody waits for room: slow
        visitors could hold it.
        """
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            if self._arriving + size > _MOST_ARRIVING:
                raise TooManyUploads
            counted += size
            self._arriving += size

        try:
            yield count
        finally:
            self._arriving -= counted

    async def add(self, content: bytes) -> str:
        """Check a picture and keep it; return its name.

        Raises:
            PictureError: the picture is too large, or can't be used as a thumbnail.
        """
        if len(content) > MAX_BYTES:
            raise PictureError(f"is larger than {MAX_BYTES >> 20} MiB")
        async with self._checking:
            checked = await asyncio.to_thread(check_picture, content, self._large)
        name = secrets.token_urlsafe(16)
        self._kept[name] = Upload(content, checked)
        while len(self._kept) > _MOST or sum(len(kept.content) for kept in self._kept.values()) > _MOST_BYTES:
            self._kept.popitem(last=False)
        return name

    def get(self, name: str) -> Upload | None:
        """Return an upload; None if it is unknown, or was removed to make room."""
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
        return found

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Remove all uploads when the block ends."""
        try:
            yield
        finally:
            self._large.close()
            self._kept.clear()
