"""Find altered copies of a thumbnail: cropped, in a dark frame, brighter or darker, with stronger or weaker colours.

`trainer.data.likeness` finds copies that only differ by compression and size. An altered copy becomes equal to its
original in this sense by a crop and one map of its colours. Both are fitted, and the rest is compared as strictly: one
other digit in small print keeps two thumbnails of one template apart. Therefore a copy with a badge is not found, and
neither is a copy with other hues or mirrored.

Candidates are thumbnails whose coarse brightness correlates at one of a few crops: the best two of each thumbnail, and
of these the best 2,000 pairs of a store, because decoding and fitting a pair takes about 15 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.framing import without_bars

__all__ = ["MOST", "MOST_CANDIDATES", "altered_candidates", "coarse", "is_altered_copy"]

MOST = 10_000
"""Maximum number of thumbnails that are compared: the time grows with its square."""
MOST_CANDIDATES = 2000
"""Maximum number of pairs that are decoded and compared."""

_CROPS = (0.0, 0.02, 0.04, 0.06)
"""Shares cropped from each edge, for candidates."""
_MOST_CROPPED = 0.08
_COARSE = (12, 6)
_LEAST_COARSE = 0.95
_CANDIDATES = 2
_QUERIES = 256

_SIZE = (480, 270)
_FINE, _SMALL = (128, 72), (32, 18)
_ALIGNING = (
    (_SMALL, (0.02, 0.01), 0.9),
    ((64, 36), (0.005,), 0.95),
    (_FINE, (0.0025, 0.00125, 0.0006), 0.97),
)
"""Sizes at which a crop is fitted, the steps of its edges, and the correlation that is necessary to go on."""
_MOST_FINE, _MOST_SMALL = 16, 24
_LEAST_CONTRAST = 20.0
"""Standard deviation of brightness, in levels: a map of colours makes pictures with less contrast equal."""
_LEAST_TONES = 30
"""A map of colours also makes flat drawings of a few colours equal. Real and drawn thumbnails have 46 or more tones."""
_DARK = 32
_MOST_FRAME = 0.15
_GREY = np.array([0.299, 0.587, 0.114], np.float32)

Pixels = NDArray[np.float32]
Box = tuple[float, float, float, float]


def coarse(sketches: NDArray[np.uint8]) -> Pixels:
    """Brightness of each of a few crops of thumbnails, with mean 0 and length 1: (crops, n, 72), first the whole.

    Args:
        sketches: (n, 18, 32, 3), as `trainer.data.likeness` saves them.
    """
    brightness: Pixels = sketches.astype(np.float32) @ _GREY
    height, width = brightness.shape[1:]
    for number in np.flatnonzero(_dark_edges(brightness)):
        box = _without_frame(brightness[number])
        inside = Image.fromarray(brightness[number]).crop(box)
        brightness[number] = np.asarray(inside.resize((width, height), Image.Resampling.BILINEAR))
    return np.stack([_coarse(brightness, crop) for crop in _CROPS])


def _dark_edges(brightness: Pixels) -> NDArray[np.bool_]:
    """Whether an outer row or column of each of n pictures is dark: (n,)."""
    across = brightness[:, [0, -1]].max(axis=2) <= _DARK
    down = brightness[:, :, [0, -1]].max(axis=1) <= _DARK
    return np.asarray(np.concatenate([across, down], axis=1).any(axis=1))


def altered_candidates(crops: Pixels) -> list[tuple[int, int]]:
    """Return pairs of thumbnails that may be altered copies, the most similar first: (lower number, higher number).

    Args:
        crops: (crops, n, 72), see `coarse`.
    """
    found: dict[tuple[int, int], float] = {}
    n = crops.shape[1]
    for start in range(0, n, _QUERIES):
        likeness = crops[0, start : start + _QUERIES] @ crops[0].T
        for cropped in crops[1:]:
            np.maximum(likeness, cropped[start : start + _QUERIES] @ crops[0].T, out=likeness)
        rows = np.arange(len(likeness))
        likeness[rows, start + rows] = -1
        for _ in range(min(_CANDIDATES, n - 1)):
            nearest = likeness.argmax(axis=1)
            best = likeness[rows, nearest]
            for row in np.flatnonzero(best >= _LEAST_COARSE).tolist():
                one, other = sorted((start + row, int(nearest[row])))
                found[one, other] = max(found.get((one, other), 0.0), float(best[row]))
            likeness[rows, nearest] = -1
    return sorted(found, key=lambda pair: -found[pair])


def is_altered_copy(one: Image.Image, other: Image.Image) -> bool:
    """Whether one of two pictures (RGB, any size) is an altered copy of the other."""
    first, second = _framed(one), _framed(other)
    return _shows(first, second) or _shows(second, first)


@dataclass(frozen=True)
class _Framed:
    """A picture of `_SIZE` without bars or dark borders."""

    image: Image.Image
    grey: Image.Image

    def part(self, box: Box, size: tuple[int, int]) -> Pixels:
        """Brightness of a part, scaled: (height, width)."""
        # With this gap, the result is nearly the same in a third of the time.
        return np.asarray(self.grey.resize(size, Image.Resampling.BICUBIC, _pixels(box), reducing_gap=3), np.float32)

    def colours(self, box: Box) -> Pixels:
        """Colours of a part, scaled to `_FINE`: (height, width, 3)."""
        return np.asarray(self.image.resize(_FINE, Image.Resampling.BICUBIC, box=_pixels(box)), np.float32)


_WHOLE: Box = (0.0, 0.0, 0.0, 0.0)


def _pixels(box: Box) -> Box:
    """A part of a picture of `_SIZE`, given by the shares that are cut from each edge."""
    (width, height), (left, top, right, bottom) = _SIZE, box
    return left * width, top * height, (1 - right) * width, (1 - bottom) * height


def _framed(image: Image.Image) -> _Framed:
    picture = without_bars(image)
    grey = np.asarray(picture.convert("L"), np.float32)
    picture = picture.crop(_without_frame(grey)).resize(_SIZE, Image.Resampling.BICUBIC)
    return _Framed(picture, picture.convert("L"))


def _without_frame(brightness: Pixels) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is inside of a dark frame."""
    light = brightness > _DARK
    edges: list[tuple[int, int]] = []
    for axis in (0, 1):
        lines = np.asarray(light.any(axis=axis))
        kept, most = np.flatnonzero(lines), round(_MOST_FRAME * len(lines))
        low, high = (int(kept[0]), int(kept[-1]) + 1) if len(kept) else (0, len(lines))
        edges.append((min(low, most), max(high, len(lines) - most)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _shows(one: _Framed, other: _Framed) -> bool:
    """Whether `other` is a part of `one`, with other colours."""
    if np.asarray(other.grey, np.float32).std() < _LEAST_CONTRAST or _tones(other.colours(_WHOLE)) < _LEAST_TONES:
        return False
    box = _aligned(one, other)
    return box is not None and _same_but_for_colours(one, box, other)


def _tones(colours: Pixels) -> int:
    """The number of colours, in steps of 16 levels, that at least 10 pixels have."""
    steps = np.clip(colours, 0, 255).astype(np.intp) // 16
    return int((np.bincount((steps @ np.array([256, 16, 1])).ravel()) >= 10).sum())


def _aligned(one: _Framed, other: _Framed) -> Box | None:
    """The part of `one` that correlates best with `other`; None if none correlates."""

    def likeness(box: Box, size: tuple[int, int], wanted: Pixels) -> float:
        return _correlation(one.part(box, size), wanted)

    box, best = _WHOLE, 0.0
    for size, steps, least in _ALIGNING:
        at_size = partial(likeness, size=size, wanted=other.part(_WHOLE, size))
        if size == _ALIGNING[0][0]:
            box = max(((cut, cut, cut, cut) for cut in np.linspace(0, _MOST_CROPPED, 9).tolist()), key=at_size)
        best = at_size(box)
        for step in steps:
            best, box = _climbed(best, box, step, at_size)
        if best < least:
            return None
    return box


def _climbed(best: float, box: Box, step: float, likeness: Callable[[Box], float]) -> tuple[float, Box]:
    """Move one edge at a time while that improves the likeness."""
    better = True
    while better:
        better = False
        for edge in range(4):
            for change in (-step, step):
                left, top, right, bottom = (cut + change * (number == edge) for number, cut in enumerate(box))
                at = (left, top, right, bottom)
                if 0 <= at[edge] <= 1.5 * _MOST_CROPPED and (found := likeness(at)) > best:
                    best, box, better = found, at, True
    return best, box


def _same_but_for_colours(one: _Framed, box: Box, other: _Framed) -> bool:
    shown, wanted = one.colours(box), other.colours(_WHOLE)
    gain, towards_grey, offset = _colour_map(shown, wanted)
    # Towards more contrast only: a map to less contrast would make all differences small.
    if not (0.97 <= gain + towards_grey <= 1.5 and 0.5 <= gain <= 1.7 and abs(offset) <= 50):
        return False
    pixels = np.asarray(one.image, np.float32)
    mapped = gain * pixels + (towards_grey * (pixels @ _GREY) + offset)[..., None]
    # Before scaling, as a brighter copy's white parts were clipped before they were scaled.
    image = Image.fromarray(np.clip(np.rint(mapped), 0, 255).astype(np.uint8))
    found = _Framed(image, image.convert("L"))
    if np.abs(found.part(box, _FINE) - other.part(_WHOLE, _FINE)).max() > _MOST_FINE:
        return False
    small = [
        np.asarray(framed.image.resize(_SMALL, Image.Resampling.BICUBIC, box=_pixels(at)), np.float32)
        for framed, at in ((found, box), (other, _WHOLE))
    ]
    return bool(np.abs(small[0] - small[1]).max() <= _MOST_SMALL)


def _colour_map(one: Pixels, other: Pixels) -> tuple[float, float, float]:
    """Fit `other = gain * one + towards_grey * brightness of one + offset` by least squares, without clipped pixels."""
    grey = np.repeat((one @ _GREY)[..., None], 3, axis=-1)
    terms, wanted = np.stack([one.ravel(), grey.ravel(), np.ones(one.size, np.float32)], axis=1), other.ravel()
    found = np.array([1.0, 0.0, 0.0])
    inside = (wanted > 4) & (wanted < 251)
    for _ in range(3):
        expected = terms @ found
        used = inside & (expected > -10) & (expected < 265)
        if used.sum() < 200:
            break
        kept = terms[used].astype(np.float64)
        # The prior of no change decides for pictures without colours, whose first two terms are equal.
        found = np.linalg.solve(kept.T @ kept + np.diag([1, 1, 1e-3]), kept.T @ wanted[used] + [1, 0, 0])
    gain, towards_grey, offset = found.tolist()
    return gain, towards_grey, offset


def _correlation(one: Pixels, other: Pixels) -> float:
    first, second = one - one.mean(), other - other.mean()
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum() + 1e-6))


def _coarse(brightness: Pixels, crop: float) -> Pixels:
    (across, down), (n, height, width) = _COARSE, brightness.shape
    mean = _shares(down, height, crop) @ brightness @ _shares(across, width, crop).T
    flat = mean.reshape(n, -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    unit: Pixels = flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-3)
    return unit


def _shares(parts: int, n: int, crop: float) -> Pixels:
    """(parts, n) share of each of n pixels in equal parts of what a crop keeps."""
    edges = np.linspace(crop * n, (1 - crop) * n, parts + 1)
    pixels = np.arange(n)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = np.clip(covered, 0, None)
    found: Pixels = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return found
