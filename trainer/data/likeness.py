"""Which pictures show the same, though their bytes differ: coded anew, scaled, with or without letterbox bars.

Two pictures are alike when, without bars and scaled down, no spot differs by more than coding explains, and their
pixels correlate. Both are needed: pictures of one template differ in a few spots and still correlate, and dark pictures
differ little everywhere and do not. Each pair is looked at twice: in colour at 32 x 18, and in grey at 128 x 72, where
small writing tells pictures of one template apart.

Measured on 120 real and 432 drawn thumbnails, largest difference of a spot in levels of 0 to 255: coded as JPEG at
qualities 80 to 40 and sizes from 320x180 to 1280x720, at most 15 in colour and 12 in grey; the
nearest two different thumbnails, 60 in colour. One digit instead of another changes the grey of a spot by 69 or more
when it is 24 pixels high in a 480x270 picture, by 20 or more at 12 pixels.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy.orm import Session

from store.db import Database
from store.errors import NotFound, PictureDamaged, StoreError
from store.training import read_features, read_pictures, write_features
from trainer.data.framing import without_bars
from trainer.data.pictures import batches, decoded
from trainer.errors import BadPicture

__all__ = ["SKETCHES", "alike", "alike_pictures", "remember_sketches", "showing"]

logger = logging.getLogger(__name__)

Sketch = NDArray[np.uint8]

_SMALL, _FINE = (32, 18), (128, 72)
_MOST_SMALL, _MOST_FINE = 24, 18
_LEAST_CORRELATION = 0.99
# Of a picture without contrast, correlation says nothing: standard deviation in levels.
_FLAT = 2.0
# Largest difference of the mean of a quarter of a picture, in levels, that coding and scaling leave.
_QUARTER = 5.0
_BYTES = _SMALL[0] * _SMALL[1] * 3
SKETCHES = hashlib.sha256(b"sketch 32x18 rgb, bars cut, bicubic").hexdigest()
"""The fingerprint under which sketches lie in the feature cache: of no model."""
_BATCH = 64


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures (RGB, any size) show the same."""
    return _close(_sketch(one), _sketch(other)) and _same_writing(_fine_sketch(one), _fine_sketch(other))


def remember_sketches(database: Database, digests: Iterable[str]) -> dict[str, Sketch]:
    """Make a small sketch of each of these stored pictures, and keep it in the feature cache.

    A store that can't be written to keeps none; the sketches are then made anew each time.

    Returns:
        {digest: (18, 32, 3) uint8}; a picture that can't be decoded, or is gone, is left out, and is like no other.
    """
    wanted = sorted(set(digests))
    with database.read() as session:
        found = _read(session, wanted)
    for batch in batches([digest for digest in wanted if digest not in found], _BATCH):
        made: dict[str, Sketch] = {}
        with database.read() as session:
            for digest in batch:
                image = _stored(session, digest)
                if image is not None:
                    made[digest] = _sketch(image)
        found |= made
        try:
            with database.write() as session:
                write_features(session, SKETCHES, "vision", {digest: made[digest].tobytes() for digest in made})
        except StoreError:
            logger.debug("sketches could not be kept", exc_info=True)
    return found


def alike_pictures(session: Session, digests: Iterable[str]) -> dict[str, str]:
    """Join stored pictures that show the same, of those whose sketches are remembered.

    Returns:
        {digest: the smallest digest of those that show the same}; pictures that are like no other are left out.
    """
    sketches = _read(session, sorted(set(digests)))
    names = list(sketches)
    parent = {name: name for name in names}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    fine = _FineSketches(session)
    for name, others in _near(names, [sketches[name] for name in names]):
        for other in others:
            low, high = sorted((root(name), root(other)))
            if low != high and fine.close(name, other):
                parent[high] = low
    company = {root(name) for name in names if root(name) != name}
    return {name: root(name) for name in names if root(name) in company}


def showing(database: Database, image: Image.Image, digests: Iterable[str]) -> frozenset[str]:
    """Which of these stored pictures show the same as `image` (RGB, any size)."""
    small, fine = _sketch(image), _fine_sketch(image)
    sketches = remember_sketches(database, digests)
    near = [name for name, sketch in sketches.items() if _close(small, sketch)]
    with database.read() as session:
        known = _FineSketches(session)
        found = {name: known.of(name) for name in near}
    return frozenset(name for name, sketch in found.items() if sketch is not None and _same_writing(fine, sketch))


class _FineSketches:
    """Sketches of stored pictures that are near others: few, and made when they are asked for."""

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


def _near(names: Sequence[str], sketches: Sequence[Sketch]) -> Iterable[tuple[str, list[str]]]:
    """Each picture with those before it that are like it at the small size."""
    from scipy.spatial import cKDTree  # noqa: PLC0415 (a single picture is compared without it)

    if len(names) < 2:
        return
    pixels = np.stack(sketches)
    width, height = _SMALL
    quarters = pixels.reshape(len(names), 2, height // 2, 2, width // 2, 3).mean(axis=(2, 4)).reshape(len(names), -1)
    tree = cKDTree(quarters)
    for row, name in enumerate(names):
        around = np.array(sorted(tree.query_ball_point(quarters[row], _QUARTER, p=np.inf)), dtype=np.intp)
        others = around[around < row]
        if len(others):
            yield name, [names[other] for other in others if _close(pixels[row], pixels[other])]


def _read(session: Session, digests: Sequence[str]) -> dict[str, Sketch]:
    width, height = _SMALL
    found = read_features(session, SKETCHES, "vision", digests, _BYTES // 4)
    shape = (height, width, 3)
    return {digest: np.frombuffer(found[digest], np.uint8).reshape(shape) for digest in digests if digest in found}


def _stored(session: Session, digest: str) -> Image.Image | None:
    try:
        return decoded(read_pictures(session, [digest])[digest], digest)
    except (BadPicture, NotFound, PictureDamaged):
        return None


def _sketch(image: Image.Image) -> Sketch:
    """(18, 32, 3) uint8: the picture without bars, scaled down, shapes not kept."""
    return np.asarray(without_bars(image).resize(_SMALL, Image.Resampling.BICUBIC))


def _fine_sketch(image: Image.Image) -> Sketch:
    """(72, 128) uint8, in grey: JPEG keeps colours less exactly than light."""
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
