"""Decode a picture to its last pixel and keep none of them; as a script, one that is read from standard input.

The script needs nothing but Pillow, so that it starts in less than a tenth of a second. It prints the picture's width
and height, or why it can't be decoded, and then ends with 1.
"""

from __future__ import annotations

import io
import sys
import warnings

from PIL import Image, PngImagePlugin

__all__ = ["MAX_CPU_S", "decoded_size", "set_up_pillow"]

MAX_CPU_S = 20
"""Of a child process: forty times what the largest usual picture takes."""
_MAX_DATA_BYTES = 512 << 20
"""The same: the largest WebP takes 200 MB."""
_TEXT_BYTES = 4 << 20


def decoded_size(data: bytes, form: str, *, scalable: bool) -> tuple[int, int]:
    """Decode a picture and return its width and height. Of an animation, the first frame counts.

    Args:
        data: the file.
        form: its format, as Pillow calls it.
        scalable: read the whole file, but make an eighth of the width and height: half the time, 1/64 of the memory.

    Raises:
        Exception: it is cut short, damaged, or of another format; see `store.types.DECODER_ERRORS`.
    """
    with Image.open(io.BytesIO(data), formats=[form]) as picture:
        size = picture.size
        if scalable:
            # In grey, libjpeg would pass over the colours, and over what is wrong with their sampling.
            picture.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
        picture.load()
        return size


def set_up_pillow() -> None:
    """Make Pillow refuse PNGs full of compressed text, and keep quiet; once a process.

    It warns of damage that a picture can be read in spite of, such as a broken list of a JPEG's further pictures: on
    the terminal, and without a word of which file it is.
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
    form, scalable = sys.argv[1:]
    try:
        width, height = decoded_size(sys.stdin.buffer.read(), form, scalable=scalable == "scalable")
    except Exception as error:
        sys.stdout.write(str(error))
        return 1
    sys.stdout.write(f"{width} {height}")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
