"""Decodes an image completely and discards the pixels. Also a script that reads the image from standard input.

The script imports only Pillow, so that it starts in less than 0.1 s. It prints the error, if there is one, and exits
with code 1.
"""

from __future__ import annotations

import io
import sys
import warnings

from PIL import Image, PngImagePlugin

__all__ = ["MAX_CPU_S", "decode_whole", "set_up_pillow"]

MAX_CPU_S = 20
"""The CPU time limit of a child process: forty times the time for the largest usual image."""
_MAX_DATA_BYTES = 512 << 20
"""The memory limit of a child process: the largest WebP takes 200 MB."""
_TEXT_BYTES = 4 << 20


def decode_whole(data: bytes, form: str, size: tuple[int, int], *, scalable: bool) -> None:
    """Decode an image; only the first frame of an animation.

    Args:
        data: the file's bytes.
        form: Pillow's name of the format.
        size: the width and height in pixels that were checked against the limits. If the decoder finds another size,
            as in a PNG with two headers, it must not allocate the pixels.
        scalable: read the whole file, but decode to an eighth of the width and height: half the time, 1/64 of the
            memory.

    Raises:
        Exception: the file is truncated, damaged, in another format, or of another size; see
            `store.types.DECODER_ERRORS`.
    """
    with Image.open(io.BytesIO(data), formats=[form]) as picture:
        if picture.size != size:
            raise ValueError("its headers are inconsistent")
        if scalable:
            # Not in grey: libjpeg would skip the colour components, and miss errors in their sampling.
            picture.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
        picture.load()


def set_up_pillow() -> None:
    """Limit compressed text in PNGs and silence Pillow's warnings, in this process.

    Pillow warns of damage that does not prevent decoding, such as an invalid list of a JPEG's further images. The
    warnings go to the terminal and do not name the file.
    """
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    PngImagePlugin.MAX_TEXT_MEMORY = _TEXT_BYTES


def _bound_this_process() -> None:
    try:
        import resource  # noqa: PLC0415 (not on Windows)
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_CPU, MAX_CPU_S), (resource.RLIMIT_DATA, _MAX_DATA_BYTES)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _main() -> int:
    _bound_this_process()
    set_up_pillow()
    form, width, height, scalable = sys.argv[1:]
    try:
        decode_whole(sys.stdin.buffer.read(), form, (int(width), int(height)), scalable=scalable == "scalable")
    except Exception as error:
        sys.stdout.write(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
