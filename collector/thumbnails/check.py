"""Verifies image files by decoding them; content types and file names are not trusted.

`read_header` bounds the memory for decoding before it starts, because a WebP file of 1.5 KB can take 600 MB. An image
that takes more than `LARGE_BYTES` is decoded in a child process, one at a time: its memory returns to the system when
the process ends, and the process can be killed.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

from PIL import Image

from collector.errors import PictureError
from collector.thumbnails import decode
from collector.thumbnails.metadata import Header, read_header
from store.types import DECODER_ERRORS, MAX_PICTURE_PIXELS

__all__ = ["CheckedPicture", "LargeDecoder", "check_picture", "is_quick"]

MAX_WHOLE_PIXELS = 10_000_000
"""The pixel limit for all images except JPEGs that are decoded in strips. 4K has 8.3 million, cinema 4K 8.8 million."""
LARGE_BYTES = 16 << 20
"""The most memory for decoding in this process. A 1280x720 WebP takes less; starting a process would take longer than
decoding it."""
QUICK_BYTES = 64 << 10
QUICK_PIXELS = 1 << 20
LONGEST_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """The properties of a decoded image. `width` and `height` are in pixels."""

    sha256: str
    mime: str
    width: int
    height: int


class LargeDecoder:
    """Decodes large images in a child process, one at a time. Call `close` when done."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    def decode_whole(self, data: bytes, header: Header) -> None:
        """Run `decode.decode_whole` in a child process.

        Raises:
            PictureError: the image can't be decoded, takes more than `decode.MAX_CPU_S` of CPU time, or `close` was
                called.
        """
        # Run by path with -P, so that the script imports neither this package nor files in the current folder.
        options = [header.format, *map(str, header.size), "scalable" if header.scalable else "as-is"]
        with self._one_at_a_time:
            code, answer = self._run([sys.executable, "-P", decode.__file__, *options], data)
        if code == 0:
            return
        if code < 0:
            answer = f"the decoder was ended by {signal.Signals(-code).name}"
        raise PictureError(f"can't be decoded ({answer})")

    def _run(self, command: list[str], data: bytes) -> tuple[int, str]:
        try:
            # In a process group of its own: Ctrl-C must stop the sync and not count as a decoding error.
            child = subprocess.Popen(  # noqa: S603 (our own script)
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            raise PictureError(f"can't be decoded (can't start a process: {error.strerror})") from error
        with child:
            self._child = child
            if self._closed:
                child.kill()
            try:
                output, _ = child.communicate(data, timeout=LONGEST_WAIT_S)
            except subprocess.TimeoutExpired as error:
                raise PictureError(f"can't be decoded (timed out after {LONGEST_WAIT_S:.0f} s)") from error
            finally:
                child.kill()
                self._child = None
        return child.returncode, output.decode(errors="replace").strip()

    def close(self) -> None:
        """Abort the current and all waiting images."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()


def check_picture(data: bytes, large: LargeDecoder | None = None) -> CheckedPicture:
    """Decode an image completely and return its properties; only the first frame of an animation. Blocks.

    Args:
        data: the file's bytes.
        large: decodes images that take more than `LARGE_BYTES`.

    Raises:
        PictureError: the file is empty, truncated, damaged, in a format not in `PICTURE_FORMATS`, has too much metadata
            (`read_header`), or more than `MAX_PICTURE_PIXELS` or `MAX_WHOLE_PIXELS`.
    """
    if not data:
        raise PictureError("the file is empty")
    header = read_header(data)
    pixels = header.width * header.height
    most = MAX_WHOLE_PIXELS if header.bytes_a_pixel else MAX_PICTURE_PIXELS
    if pixels > most:
        raise PictureError(
            f"too many pixels: {header.width} x {header.height} ({header.format}; at most {most // 1_000_000} million)"
        )
    try:
        if pixels * header.bytes_a_pixel > LARGE_BYTES:
            (large or LargeDecoder()).decode_whole(data, header)
        else:
            decode.decode_whole(data, header.format, header.size, scalable=header.scalable)
    except (*DECODER_ERRORS, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"can't be decoded ({error})") from error
    return CheckedPicture(hashlib.sha256(data).hexdigest(), f"image/{header.format.lower()}", *header.size)


def is_quick(data: bytes) -> bool:
    """Whether `check_picture` takes only about a millisecond, as for YouTube's JPEGs.

    Such images are decoded on the event loop: a thread would hold the interpreter lock for as long and delay the loop
    more.

    Raises:
        PictureError: see `check_picture`.
    """
    if not 0 < len(data) <= QUICK_BYTES:
        return False
    header = read_header(data)
    return header.format == "JPEG" and not header.bytes_a_pixel and header.width * header.height <= QUICK_PIXELS
