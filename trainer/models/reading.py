"""Read the words on thumbnails. An OCR reads each thumbnail once, and the words are saved in the store.

The OCR is RapidOCR (https://github.com/RapidAI/RapidOCR), which runs PaddleOCR's models on onnxruntime. Its wheel
contains the models, so nothing is downloaded. The extra `thumbtune[reader]` installs it. It recognises Latin letters,
digits and Chinese.
"""

from __future__ import annotations

import importlib.metadata
import logging
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image, ImageOps

from store.db import Database
from store.training import read_words_of, write_words
from store.types import utc_now
from trainer.data import PictureSource, batches
from trainer.errors import ReaderMissing

__all__ = ["Found", "Reader", "RapidReader", "joined", "read_words"]

INSTALL = "pip install 'thumbtune[reader]'"

LEAST_CONFIDENCE = 0.7
LONGEST_TEXT = 1000
"""Maximum number of characters of a thumbnail's text: more than fits on a thumbnail or into a sentence model."""
LONGEST_SIDE = 640
"""In pixels. A larger picture is scaled down to this size first. YouTube's `hqdefault` is 480 pixels wide."""
MOST_BOXES = 100
"""Maximum number of text boxes that are read in one picture. A malicious thumbnail could have a thousand."""
_SHORTEST_SIDE = 96
_DISTRIBUTION = "rapidocr-onnxruntime"
# Version of `joined` and its limits: increased when the saved words change with the same OCR.
_JOINING = 1
_BATCH = 8
_MOST_UNSAVED = 1000
_unsaved: WeakKeyDictionary[Database, dict[tuple[str, str], str]] = WeakKeyDictionary()
"""{(reader, digest): words} that were not written to the store. The page and `match` use the words of a file twice."""

Count = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """One piece of text in a picture.

    Args:
        text: the text.
        confidence: 0 to 1.
        left, top, right, bottom: edges, in pixels.
    """

    text: str
    confidence: float
    left: float
    top: float
    right: float
    bottom: float


def joined(pieces: Iterable[Found], least: float = LEAST_CONFIDENCE) -> str:
    """Join pieces of text in reading order: lines from top to bottom, the pieces of a line from left to right.

    A piece belongs to the current line if the vertical distance of their centres is less than half the smaller height.

    Args:
        pieces: the pieces, in any order.
        least: minimum confidence; other pieces are left out.

    Returns:
        The text, separated by spaces, at most `LONGEST_TEXT` characters; empty if no text was read.
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
    """Text without control characters (PostgreSQL can't store NUL), with runs of whitespace replaced by one space."""
    return " ".join("".join(char if unicodedata.category(char)[0] != "C" else " " for char in text).split())


class Reader(Protocol):
    """Reads the words in pictures."""

    name: str
    """Name and version: the key of its words in the store."""

    def read(self, image: Image.Image) -> str:
        """Return the words in an RGB picture, in the form of `joined`."""


class RapidReader:
    """RapidOCR on one CPU thread. The models are loaded for the first picture.

    The classifier that detects upside-down text is disabled, because thumbnails are upright.

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
        """Return the words in an RGB picture of any size.

        Raises:
            ReaderMissing: a package of the extra can't be imported.
        """
        # OpenCV uses BGR.
        pixels = np.ascontiguousarray(np.asarray(_bounded(image))[:, :, ::-1])
        pieces, _seconds = _engine()(pixels)
        return joined(_piece(*piece) for piece in (pieces or ())[:MOST_BOXES])


@cache
def _engine() -> Any:
    try:
        from rapidocr_onnxruntime import RapidOCR  # noqa: PLC0415 (optional, and slow to import)
    except ImportError as error:
        # The packages are installed, but a system library is missing, as for OpenCV on a server without a display.
        raise ReaderMissing(
            f"the reader's packages can't be imported ({error}); run {INSTALL}; if a system library such as libGL is "
            "missing, install opencv-python-headless instead of opencv-python"
        ) from error
    # The operations are small, so more threads cost more CPU time than they save.
    engine = RapidOCR(
        use_cls=False,
        intra_op_num_threads=1,
        inter_op_num_threads=1,
        det_limit_type="max",
        det_limit_side_len=LONGEST_SIDE,
        det_max_candidates=MOST_BOXES,
    )
    # RapidOCR logs to stderr with its own handlers, for example a warning for each picture without words.
    for name in ("RapidOCR", "OrtInferSession", "ch_ppocr_det", "ch_ppocr_rec"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return engine


def _missing() -> ReaderMissing:
    return ReaderMissing(f"reading the words on thumbnails requires the extra 'reader'; run {INSTALL}")


def _bounded(image: Image.Image) -> Image.Image:
    """The picture with sides of `_SHORTEST_SIDE` to `LONGEST_SIDE` pixels: scaled down in proportion, then padded.

    Without padding, the OCR would enlarge a picture that is only a few pixels high to a very large one.
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
    """Return the words on thumbnails. Words that are not in the store yet are read now.

    New words are written to the store batch by batch, so that an interrupted reading continues where it stopped. Others
    stay in memory.

    Args:
        database: the store.
        reader: the OCR.
        digests: SHA-256 (hex) of each thumbnail.
        source: loads the thumbnails.
        count: receives the number of distinct thumbnails done.
        keep: write new words to the store.

    Returns:
        {digest: words}; an empty string for a thumbnail without words.

    Raises:
        BadPicture: a thumbnail can't be decoded.
        ReaderMissing: see `RapidReader`.
    """
    distinct, unsaved = list(dict.fromkeys(digests)), _unsaved.setdefault(database, {})
    with database.read() as session:
        words = read_words_of(session, reader.name, distinct)
    count(len(words))
    for batch in batches([digest for digest in distinct if digest not in words], _BATCH):
        known = {digest: unsaved[reader.name, digest] for digest in batch if (reader.name, digest) in unsaved}
        unread = [digest for digest in batch if digest not in known]
        read = {digest: reader.read(image) for digest, image in zip(unread, source.load(unread), strict=True)}
        if keep and not database.unwritable:
            database.transact(partial(write_words, reader=reader.name, texts=read | known, at=utc_now()))
        else:
            if len(unsaved) > _MOST_UNSAVED:
                unsaved.clear()
            unsaved.update({(reader.name, digest): text for digest, text in read.items()})
        words.update(read | known)
        count(len(batch))
    return words
