"""Find near-duplicate thumbnails: the same picture recompressed, scaled, or with or without letterbox bars.

Two pictures are near-duplicates if, without bars and scaled down, no pixel differs by more than compression explains,
and their pixels correlate. Both conditions are needed: pictures from one template differ in a few pixels and still
correlate; dark pictures differ little everywhere and do not correlate. Each pair is compared twice: in colour at
32 x 18 pixels, and in greyscale at 128 x 72 pixels, where small text distinguishes pictures from one template.

Measured on 120 real and 432 generated thumbnails, as the largest difference of a pixel in levels of 0 to 255:

- the same thumbnail as JPEG of quality 80 to 40, in sizes from 320x180 to 1280x720: at most 15 in colour, 12 in grey;
- the two most similar different thumbnails: 60 in colour;
- one digit replaced by another in a 480x270 picture: at least 69 in grey if it is 24 pixels high, at least 20 if it is
  12 pixels high.

Then `trainer.data.altered` looks for copies that were also cropped, framed or recoloured.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session

from store.db import Database
from store.errors import NotFound, PictureDamaged, StoreError
from store.training import read_features, read_pictures, write_features
from trainer.data.altered import MOST, MOST_CANDIDATES, altered_candidates, coarse, is_altered_copy
from trainer.data.framing import without_bars
from trainer.data.pictures import batches, decoded
from trainer.errors import BadPicture

__all__ = [
    "ALTERED",
    "SKETCHES",
    "Sketched",
    "alike_pictures",
    "remember_altered",
    "remember_sketches",
    "showing",
    "sketched",
]

logger = logging.getLogger(__name__)

Sketch = NDArray[np.uint8]
Pair = tuple[str, str]
"""The digests of two thumbnails."""

_SMALL, _FINE = (32, 18), (128, 72)
_MOST_SMALL, _MOST_FINE = 24, 18
_LEAST_CORRELATION = 0.99
# Standard deviation, in levels, below which a picture has too little contrast for a correlation.
_FLAT = 2.0
# Largest difference, in levels, that compression and scaling cause in the mean colour of a quarter of a picture.
_QUARTER = 5.0
_BYTES = _SMALL[0] * _SMALL[1] * 3
SKETCHES = hashlib.sha256(b"sketch 32x18 rgb, bars cut, bicubic").hexdigest()
"""The feature cache's key for sketches. It is not the fingerprint of a model."""
ALTERED = hashlib.sha256(b"altered copy, crop and colours fitted at 480x270 in two steps").hexdigest()
"""The feature cache's key for whether two thumbnails are altered copies: 1.0 or 0.0 under the digest of both."""
_BATCH = 64
_BLOCK = 2048
"""Sketches, or pairs of them, in memory at a time."""
_QUERIES = 32
"""Searches at a time: each may find all thumbnails, if they are from one template."""


@dataclass(frozen=True)
class Sketched:
    """Thumbnails with a saved sketch.

    Args:
        digests: n digests, ascending.
        quarters: (n, 12) float64, the mean colours of the four quarters of each sketch.
    """

    digests: list[str]
    quarters: NDArray[np.float64]


def sketched(session: Session, digests: Iterable[str]) -> Sketched:
    """Return those of these thumbnails that have a saved sketch."""
    return _quarters(_read(session, block) for block in batches(sorted(set(digests)), _BLOCK))


def remember_sketches(database: Database, digests: Iterable[str]) -> Sketched:
    """Make a small sketch of each of these stored thumbnails, and save it in the feature cache.

    Thumbnails that can't be decoded or are not in the store are skipped. If the store can't be written, nothing is
    saved.

    Returns:
        The thumbnails that have a saved sketch now.
    """
    return _quarters(_saved(database, sorted(set(digests))))


def _saved(database: Database, digests: Sequence[str]) -> Iterator[dict[str, Sketch]]:
    """Yield the saved sketches, then those that were missing, which are made and saved; a block at a time."""
    missing: list[str] = []
    for block in batches(digests, _BLOCK):
        with database.read() as session:
            sketches = _read(session, block)
        missing += [digest for digest in block if digest not in sketches]
        yield sketches
    for batch in batches(missing, _BATCH):
        with database.read() as session:
            sketches = _made(session, batch)
        vectors = {digest: sketch.tobytes() for digest, sketch in sketches.items()}
        try:
            with database.write() as session:
                write_features(session, SKETCHES, "vision", vectors)
        except StoreError:
            logger.debug("sketches could not be saved", exc_info=True)
            return
        yield sketches


def remember_altered(database: Database, digests: Iterable[str]) -> None:
    """Compare thumbnails that may be altered copies of each other, and save the results in the feature cache.

    Only thumbnails with a saved sketch are compared. If the store can't be written, nothing is saved.
    """
    with database.read() as session:
        pairs = _altered(session, sorted(set(digests)))
        known = _compared(session, pairs)
    missing = [pair for pair in pairs if pair not in known]
    for start in range(0, len(missing), _BATCH):
        with database.read() as session:
            found = {pair: _is_altered(session, *pair) for pair in missing[start : start + _BATCH]}
        vectors = {_digest_of(pair): np.float32(found[pair]).tobytes() for pair in found}
        try:
            with database.write() as session:
                write_features(session, ALTERED, "vision", vectors)
        except StoreError:
            logger.debug("comparisons could not be saved", exc_info=True)
            return


def alike_pictures(session: Session, thumbnails: Sketched) -> dict[str, str]:
    """Group stored thumbnails that are near-duplicates.

    In memory are the mean colours of each thumbnail's quarters (96 bytes), and the sketches of one block of candidates;
    of at most `trainer.data.altered.MOST` thumbnails, also their coarse brightness (1.2 kB).

    Returns:
        {digest: the smallest digest in its group}, without thumbnails that have no near-duplicate.
    """
    names = thumbnails.digests
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while (above := parent.get(name, name)) != name:
            parent[name] = parent.get(above, above)
            name = above
        return name

    def join(one: str, other: str) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low

    fine = _FineSketches(session)
    near = _near(names, thumbnails.quarters)
    while some := list(islice(near, _BLOCK)):
        candidates = [(one, other) for one, other in some if root(one) != root(other)]
        sketches = _read(session, sorted({name for pair in candidates for name in pair}))
        for one, other in candidates:
            there = one in sketches and other in sketches
            apart = root(one) != root(other)
            if apart and there and _close(sketches[one], sketches[other]) and fine.close(one, other):
                join(one, other)
    pairs = _altered(session, names)
    compared = _compared(session, pairs)
    for one, other in pairs:
        if root(one) != root(other) and (
            compared[one, other] if (one, other) in compared else _is_altered(session, one, other)
        ):
            join(one, other)
    return {name: root(name) for found in list(parent) for name in (found, root(found))}


def _altered(session: Session, digests: Sequence[str]) -> list[Pair]:
    """Return the pairs that may be altered copies, the most similar first; none if there are too many thumbnails."""
    if len(digests) > MOST:
        return []
    names: list[str] = []
    crops: list[NDArray[np.float32]] = []
    for batch in batches(digests, _BLOCK):
        if sketches := _read(session, batch):
            names += sketches
            crops.append(coarse(np.stack(list(sketches.values()))))
    pairs = altered_candidates(np.concatenate(crops, axis=1)) if crops else []
    return [(names[one], names[other]) for one, other in pairs[:MOST_CANDIDATES]]


def _compared(session: Session, pairs: Sequence[Pair]) -> dict[Pair, bool]:
    """Return the saved results of `remember_altered`."""
    digests = {pair: _digest_of(pair) for pair in pairs}
    found = read_features(session, ALTERED, "vision", list(digests.values()), 1)
    return {pair: bool(np.frombuffer(found[name], "<f4")[0]) for pair, name in digests.items() if name in found}


def _digest_of(pair: Pair) -> str:
    return hashlib.sha256(" ".join(sorted(pair)).encode()).hexdigest()


def _is_altered(session: Session, one: str, other: str) -> bool:
    first, second = _stored(session, one), _stored(session, other)
    return first is not None and second is not None and is_altered_copy(first, second)


def showing(database: Database, image: Image.Image, digests: Iterable[str]) -> frozenset[str]:
    """Return which of these stored thumbnails are near-duplicates of `image` (RGB, any size)."""
    small, fine = _sketch(image), _fine_sketch(image)
    wanted = sorted(set(digests))
    near: list[str] = []
    compared: set[str] = set()
    for sketches in _saved(database, wanted):
        near += [name for name, sketch in sketches.items() if _close(small, sketch)]
        compared.update(sketches)
    # Those that could not be saved.
    for batch in batches([digest for digest in wanted if digest not in compared], _BATCH):
        with database.read() as session:
            near += [name for name, sketch in _made(session, batch).items() if _close(small, sketch)]
    with database.read() as session:
        known = _FineSketches(session)
        found = {name: known.of(name) for name in near}
    return frozenset(name for name, sketch in found.items() if sketch is not None and _same_writing(fine, sketch))


class _FineSketches:
    """Fine sketches of stored thumbnails, made on first use: few thumbnails are similar enough to need one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, Sketch | None] = {}

    def of(self, digest: str) -> Sketch | None:
        if digest not in self._known:
            image = _stored(self._session, digest)
            self._known[digest] = None if image is None else _fine_sketch(image)
        return self._known[digest]

    def close(self, one: str, other: str) -> bool:
        first, second = self.of(one), self.of(other)
        return first is not None and second is not None and _same_writing(first, second)


def _near(names: Sequence[str], quarters: NDArray[np.float64]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of thumbnails whose quarters have nearly equal colours: (name, earlier name)."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 (a single picture is compared without it)

    if len(names) < 2:
        return
    tree = cKDTree(quarters)
    for start in range(0, len(names), _QUERIES):
        around: Any = tree.query_ball_point(quarters[start : start + _QUERIES], _QUARTER, p=np.inf)
        for row, others in enumerate(around, start):
            yield from ((names[row], names[other]) for other in sorted(others) if other < row)


def _quarters(blocks: Iterable[Mapping[str, Sketch]]) -> Sketched:
    """The mean colours of the sketches' quarters, a block of sketches at a time."""
    width, height = _SMALL
    digests: list[str] = []
    colours = [np.empty((0, 12))]
    for sketches in blocks:
        if sketches:
            digests += sketches
            pixels = np.stack(list(sketches.values())).reshape(-1, 2, height // 2, 2, width // 2, 3)
            colours.append(pixels.mean(axis=(2, 4)).reshape(len(sketches), -1))
    order = sorted(range(len(digests)), key=digests.__getitem__)
    return Sketched([digests[at] for at in order], np.concatenate(colours)[order])


def _read(session: Session, digests: Sequence[str]) -> dict[str, Sketch]:
    width, height = _SMALL
    found = read_features(session, SKETCHES, "vision", digests, _BYTES // 4)
    shape = (height, width, 3)
    return {digest: np.frombuffer(found[digest], np.uint8).reshape(shape) for digest in digests if digest in found}


def _made(session: Session, digests: Sequence[str]) -> dict[str, Sketch]:
    images = {digest: _stored(session, digest) for digest in digests}
    return {digest: _sketch(image) for digest, image in images.items() if image is not None}


def _stored(session: Session, digest: str) -> Image.Image | None:
    try:
        return decoded(read_pictures(session, [digest])[digest], digest)
    except (BadPicture, NotFound, PictureDamaged):
        return None


def _sketch(image: Image.Image) -> Sketch:
    """(18, 32, 3) uint8: the picture without bars, scaled down without keeping the aspect ratio."""
    return np.asarray(without_bars(image).resize(_SMALL, Image.Resampling.BICUBIC))


def _fine_sketch(image: Image.Image) -> Sketch:
    """(72, 128) uint8, in greyscale, because JPEG stores colour less accurately than brightness."""
    return np.asarray(without_bars(image).convert("L").resize(_FINE, Image.Resampling.BICUBIC))


def _close(one: Sketch, other: Sketch) -> bool:
    first, second = one.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    if np.abs(first - second).max() > _MOST_SMALL:
        return False
    if min(first.std(), second.std()) < _FLAT:
        return bool(np.abs(first - second).max() <= 2 * _FLAT)
    return bool(np.corrcoef(first, second)[0, 1] >= _LEAST_CORRELATION)


def _same_writing(one: Sketch, other: Sketch) -> bool:
    return int(np.abs(one.astype(np.int16) - other.astype(np.int16)).max()) <= _MOST_FINE
