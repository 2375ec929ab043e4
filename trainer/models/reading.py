"""The words on thumbnails: each picture is read once by an OCR program, and the words are kept in the store.

The OCR is RapidOCR (https://github.com/RapidAI/RapidOCR), PaddleOCR's models on onnxruntime; its wheel carries the
models, so nothing is downloaded. It is the extra `thumbtune[reader]`. It knows Latin letters, digits and Chinese.
"""

from __future__ import annotations

import importlib.metadata
import logging
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps

from store.db import Database
from store.training import read_words_of, write_words
from store.types import utc_now
from trainer.data import PictureSource, batches
from trainer.errors import ReaderMissing

__all__ = ["INSTALL", "Found", "Reader", "RapidReader", "joined", "read_words"]

INSTALL = "pip install 'thumbtune[reader]'"

LEAST_CONFIDENCE = 0.7
LONGEST_TEXT = 1000
"""Characters kept of one picture: more than a thumbnail can show, and than a sentence model reads."""
LONGEST_SIDE = 640
"""Pixels: a larger picture is shrunk to this before it is read. YouTube's `hqdefault` has 480."""
MOST_BOXES = 100
"""Boxes of text that are read in one picture. A thumbnail has a few; a hostile one could have a thousand."""
_SHORTEST_SIDE = 96
_DISTRIBUTION = "rapidocr-onnxruntime"
# Counted up when what is kept for a picture changes with the same OCR.
_JOINING = 1
_BATCH = 8

Count = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of text in a picture.

    Args:
        text: as it was read.
        confidence: 0 to 1.
        left, top, right, bottom: pixels.
    """

    text: str
    confidence: float
    left: float
    top: float
    right: float
    bottom: float


def joined(pieces: Iterable[Found], least: float = LEAST_CONFIDENCE) -> str:
    """Put pieces of text in reading order: lines from top to bottom, pieces of a line from left to right.

    A piece joins the line above it when their middles are less than half the lower one's height apart.

    Args:
        pieces: in any order.
        least: pieces of lower confidence are left out.

    Returns:
        One line, pieces separated by spaces, at most `LONGEST_TEXT` characters; empty where nothing was read.
    """
    lines: list[list[Found]] = []
    kept = [piece for piece in pieces if piece.confidence >= least and _plain(piece.text)]
    for piece in sorted(kept, key=lambda piece: (_middle(piece), piece.left)):
        if lines and _same_line(lines[-1], piece):
            lines[-1].append(piece)
        else:
            lines.append([piece])
    words = [_plain(piece.text) for line in lines for piece in sorted(line, key=lambda piece: piece.left)]
    return " ".join(words)[:LONGEST_TEXT].rstrip()


def _same_line(line: Sequence[Found], piece: Found) -> bool:
    middle = sum(_middle(other) for other in line) / len(line)
    height = sum(other.bottom - other.top for other in line) / len(line)
    return abs(_middle(piece) - middle) < 0.5 * min(height, piece.bottom - piece.top)


def _middle(piece: Found) -> float:
    return (piece.top + piece.bottom) / 2


def _plain(text: str) -> str:
    """Text without control characters (PostgreSQL stores no NUL), runs of white space as one space."""
    return " ".join("".join(char if unicodedata.category(char)[0] != "C" else " " for char in text).split())


class Reader(Protocol):
    """Reads the words in pictures."""

    name: str
    """Name and version: what it reads is kept under this."""

    def read(self, image: Image.Image) -> str:
        """The words in an RGB picture, see `joined`."""


class RapidReader:
    """RapidOCR on one thread of the processor, its models loaded at the first picture.

    The classifier that turns text by 180 degrees is left out: thumbnails are upright.

    Raises:
        ReaderMissing: the extra is not installed.
    """

    def __init__(self) -> None:
        try:
            version = importlib.metadata.version(_DISTRIBUTION)
        except importlib.metadata.PackageNotFoundError as error:
            raise _missing() from error
        self.name = f"{_DISTRIBUTION} {version}, joined {_JOINING}"

    def read(self, image: Image.Image) -> str:
        """The words in an RGB picture of any size.

        Raises:
            ReaderMissing: a part of the extra can't be imported.
        """
        # BGR, as OpenCV has it.
        pixels = np.ascontiguousarray(np.asarray(_bounded(image))[:, :, ::-1])
        pieces, _seconds = _engine()(pixels)
        return joined(_piece(*piece) for piece in (pieces or ())[:MOST_BOXES])


@cache
def _engine() -> Any:
    try:
        from rapidocr_onnxruntime import RapidOCR  # noqa: PLC0415 (optional, and slow to import)
    except ImportError as error:
        # The packages are there; one of them lacks a library of the system, as OpenCV does where there is no display.
        raise ReaderMissing(
            f"the packages that read words can't be imported ({error}); {INSTALL}, and where a system library such as "
            "libGL is missing, install opencv-python-headless in place of opencv-python"
        ) from error
    # More than one thread costs more processor time than it saves: its operations are small.
    engine = RapidOCR(
        use_cls=False,
        intra_op_num_threads=1,
        inter_op_num_threads=1,
        det_limit_type="max",
        det_limit_side_len=LONGEST_SIDE,
        det_max_candidates=MOST_BOXES,
    )
    # It writes to stderr through handlers of its own, a warning for each picture without words among others.
    for name in ("RapidOCR", "OrtInferSession", "ch_ppocr_det", "ch_ppocr_rec"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return engine


def _missing() -> ReaderMissing:
    return ReaderMissing(f"reading the words on thumbnails needs the extra 'reader'; {INSTALL}")


def _bounded(image: Image.Image) -> Image.Image:
    """The picture with sides of `_SHORTEST_SIDE` to `LONGEST_SIDE` pixels: shrunk in proportion, then padded.

    A strip of a few pixels would be enlarged by the OCR, to a size that grows with its length.
    """
    longest = max(image.size)
    if longest > LONGEST_SIDE:
        scale = LONGEST_SIDE / longest
        width, height = (max(1, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    wider, higher = (max(side, _SHORTEST_SIDE) for side in image.size)
    if (wider, higher) != image.size:
        image = ImageOps.expand(image, (0, 0, wider - image.width, higher - image.height), fill=(0, 0, 0))
    return image


def _piece(corners: Sequence[Sequence[float]], text: str, confidence: float | str) -> Found:
    across, down = [float(corner[0]) for corner in corners], [float(corner[1]) for corner in corners]
    return Found(text, float(confidence), min(across), min(down), max(across), max(down))


def read_words(
    database: Database,
    reader: Reader,
    digests: Sequence[str],
    source: PictureSource,
    count: Count,
    *,
    keep: bool = True,
) -> Mapping[str, str]:
    """The words in pictures: from the store where they were read before, else read now.

    What was read is written to the store batch by batch, so that reading that was cut off goes on where it stopped.

    Args:
        database: the store.
        reader: the OCR.
        digests: SHA-256 (hex) of each picture.
        source: where the pictures come from.
        count: told of each distinct picture that is ready.
        keep: write what was read to the store.

    Returns:
        {digest: words}; empty words where the picture has none.

    Raises:
        BadPicture: a picture can't be decoded.
        ReaderMissing: see `RapidReader`.
    """
    wanted = list(dict.fromkeys(digests))
    with database.read() as session:
        words = read_words_of(session, reader.name, wanted)
    count(len(words))
    for batch in batches([digest for digest in wanted if digest not in words], _BATCH):
        read = {digest: reader.read(image) for digest, image in zip(batch, source.load(batch), strict=True)}
        if keep and not database.unwritable:
            with database.write() as session:
                write_words(session, reader.name, read, utc_now())
        words.update(read)
        count(len(read))
    return words
