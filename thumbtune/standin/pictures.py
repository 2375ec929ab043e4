"""The files of the thumbnail host. All sizes are made from the video's `high` thumbnail."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image

from store.types import PICTURE_FORMATS
from thumbtune.standin.catalogue import StandInVideo
from thumbtune.standin.resources import PICTURE_FILES

__all__ = ["FILES", "PictureFile", "Pictures", "placeholder", "thumbnail"]

FILES = {name: (width, height) for name, width, height in PICTURE_FILES.values()}
"""Width and height in pixels of each file."""

_HIGH = PICTURE_FILES["high"][0]
_BARRED = 4 / 3
_WIDE = 16 / 9
_QUALITY = 88
_MOST_KEPT = 128


@dataclass(frozen=True, slots=True)
class PictureFile:
    """Encoded bytes and their ETag (without quotes)."""

    body: bytes
    etag: str


class Pictures:
    """Makes and caches the files.

    The most recently used files stay in memory. An ETag is a digest of the content, so it survives a restart. Known
    ETags are never evicted (some hundred bytes per file), so that conditional requests draw nothing.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[str, str], tuple[Callable[[], bytes], PictureFile]] = OrderedDict()
        self._etags: dict[tuple[str, str], tuple[Callable[[], bytes], str]] = {}

    def known_etag(self, video: StandInVideo, file: str) -> str | None:
        """Return the ETag of a file that was already made from the video's current thumbnail, else None."""
        picture, etag = self._etags.get((video.id, file), (None, None))
        return etag if picture is video.picture else None

    async def get(self, video: StandInVideo, file: str) -> PictureFile:
        """Return one of `FILES` for a video, from memory or drawn in a thread to keep the event loop free.

        Raises:
            KeyError: the file name is unknown.
        """
        key = (video.id, file)
        kept = self._files.get(key)
        if kept is not None and kept[0] is video.picture:
            self._files.move_to_end(key)
            return kept[1]
        if video.picture_at_hand and file == _HIGH:
            made_file = _make(video.picture, file)
        else:
            made_file = await asyncio.to_thread(_make, video.picture, file)
        self._etags[key] = video.picture, made_file.etag
        self._files[key] = video.picture, made_file
        while len(self._files) > _MOST_KEPT:
            self._files.popitem(last=False)
        return made_file


def thumbnail(high: bytes, file: str) -> bytes:
    """Return one of `FILES` as JPEG, made from the 480x360 `high` thumbnail; `hqdefault.jpg` is `high` itself.

    The 4:3 sizes keep the black bars above and below a 16:9 picture. `mqdefault.jpg` and `maxresdefault.jpg` are the
    16:9 middle without the bars. Bytes that can't be decoded are returned unchanged.

    Raises:
        KeyError: the file name is unknown.
    """
    width, height = FILES[file]
    if file == _HIGH:
        return high
    try:
        with Image.open(io.BytesIO(high), formats=PICTURE_FORMATS) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return high
    if width / height != _BARRED:
        picture = _middle(picture, _WIDE)
    return _jpeg(_middle(picture, width / height).resize((width, height), Image.Resampling.LANCZOS))


@cache
def placeholder() -> bytes:
    """Return the grey 120x90 JPEG that the thumbnail host sends with a 404."""
    return _jpeg(Image.new("RGB", (120, 90), (232, 232, 232)))


def _make(picture: Callable[[], bytes], file: str) -> PictureFile:
    body = thumbnail(picture(), file)
    return PictureFile(body, hashlib.sha256(body).hexdigest()[:24])


def _middle(picture: Image.Image, ratio: float) -> Image.Image:
    """Return the largest centred part with width:height = `ratio`."""
    width, height = picture.size
    w = min(width, max(1, round(height * ratio)))
    h = min(height, max(1, round(width / ratio)))
    left, top = (width - w) // 2, (height - h) // 2
    return picture.crop((left, top, left + w, top + h))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
