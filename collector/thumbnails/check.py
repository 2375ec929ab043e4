"""Whether bytes are a picture: decided by decoding them, never by a header or a name.

What decoding may cost is bounded before it begins, by what `read_header` finds: a WebP of 1.5 KB can take 600 MB. What
takes more than `LARGE_BYTES` is decoded in a child process, one picture at a time: its memory goes back to the system
with it, and it can be abandoned.
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

__all__ = ["MAX_WHOLE_PIXELS", "CheckedPicture", "LargeDecoder", "check_picture", "is_quick"]

MAX_WHOLE_PIXELS = 10_000_000
"""Of all but a JPEG that is decoded in strips: 4K has 8.3 million, or 8.8 million in cinemas."""
LARGE_BYTES = 16 << 20
"""That decoding takes. 1280x720 pixels of WebP are less: starting a process takes longer than decoding them."""
QUICK_BYTES = 64 << 10
QUICK_PIXELS = 1 << 20
LONGEST_WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class CheckedPicture:
    """What decoding found."""

    sha256: str
    mime: str
    width: int
    height: int


class LargeDecoder:
    """Decodes large pictures in a child process, one at a time. Call `close` when done."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    def decoded_size(self, data: bytes, header: Header) -> tuple[int, int]:
        """`decode.decoded_size` in a child process.

        Raises:
            PictureError: as there; it takes more than `decode.MAX_CPU_S` of CPU, or `close` was called.
        """
        # By path, and without the current folder on the module path: the script imports nothing of ours or the user's.
        command = [sys.executable, "-P", decode.__file__, header.format, "scalable" if header.scalable else "as-is"]
        with self._one_at_a_time:
            code, answer = self._run(command, data)
        if code == 0:
            width, height = answer.split()
            return int(width), int(height)
        if code < 0:
            answer = f"its decoder was ended by {signal.Signals(-code).name}"
        raise PictureError(f"can't be decoded ({answer})")

    def _run(self, command: list[str], data: bytes) -> tuple[int, str]:
        try:
            # A process group of its own: Ctrl-C is for the sync, and says nothing about the picture.
            child = subprocess.Popen(  # noqa: S603 (our own script)
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, process_group=0
            )
        except OSError as error:
            raise PictureError(f"can't be decoded (no process can be started: {error.strerror})") from error
        with child:
            self._child = child
            if self._closed:
                child.kill()
            try:
                output, _ = child.communicate(data, timeout=LONGEST_WAIT_S)
            except subprocess.TimeoutExpired as error:
                raise PictureError(f"can't be decoded (it takes more than {LONGEST_WAIT_S:.0f} s)") from error
            finally:
                child.kill()
                self._child = None
        return child.returncode, output.decode(errors="replace").strip()

    def close(self) -> None:
        """Abandon the picture that is being decoded, and those that wait."""
        self._closed = True
        child = self._child
        if child is not None:
            child.kill()


def check_picture(data: bytes, large: LargeDecoder | None = None) -> CheckedPicture:
    """Decode a picture to its last pixel and say what it is. Of an animation, the first frame counts. It blocks.

    Args:
        data: the file.
        large: decodes what takes more than `LARGE_BYTES`.

    Raises:
        PictureError: empty, of a format not in `PICTURE_FORMATS`, cut short, damaged, of too much metadata
            (`read_header`), or of more than `MAX_PICTURE_PIXELS` or `MAX_WHOLE_PIXELS`.
    """
    if not data:
        raise PictureError("the file is empty")
    header = read_header(data)
    pixels = header.width * header.height
    most = MAX_WHOLE_PIXELS if header.bytes_a_pixel else MAX_PICTURE_PIXELS
    if pixels > most:
        raise PictureError(
            f"{header.width} x {header.height} pixels are too many for its kind ({header.format}; at most "
            f"{most // 1_000_000} million)"
        )
    try:
        if pixels * header.bytes_a_pixel > LARGE_BYTES:
            size = (large or LargeDecoder()).decoded_size(data, header)
        else:
            size = decode.decoded_size(data, header.format, scalable=header.scalable)
    except (*DECODER_ERRORS, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(f"can't be decoded ({error})") from error
    if size != (header.width, header.height):
        raise PictureError("can't be decoded (its headers contradict each other)")
    return CheckedPicture(hashlib.sha256(data).hexdigest(), f"image/{header.format.lower()}", *size)


def is_quick(data: bytes) -> bool:
    """Whether `check_picture` takes about a millisecond, as for the JPEGs that YouTube makes.

    An event loop is less late if it does that itself: a thread would take the interpreter from it for as long.

    Raises:
        PictureError: as `check_picture` does.
    """
    if not 0 < len(data) <= QUICK_BYTES:
        return False
    header = read_header(data)
    return header.format == "JPEG" and not header.bytes_a_pixel and header.width * header.height <= QUICK_PIXELS
