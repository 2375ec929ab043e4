"""Whether embeddings can be compared, pure: what a training that diverged leaves can't, and would rank by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spread", "collapsed", "spread", "why_unusable"]

Vectors = NDArray[np.float32]

Spread = tuple[float, float]
"""How far apart a model's embeddings lie: of the thumbnails, and of the titles. See `spread`."""

# Rounding moves the length of a normalised float32 vector by about 1e-7.
_LENGTH_SLACK = 1e-3
# Unit vectors this close have a cosine of 1 - 5e-7, which a float32 product does not tell from 1.
_TOO_CLOSE = 1e-3


def why_unusable(vectors: Vectors) -> str | None:
    """Say why embeddings can't be compared; None where they can.

    Args:
        vectors: (n, d) float32, meant to be of length 1. Normalising leaves zeros where a length over- or underflowed.
    """
    if not np.isfinite(vectors).all():
        return "not finite"
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if (np.abs(lengths - 1) > _LENGTH_SLACK).any():
        return "without length"
    return None


def spread(vectors: Vectors) -> float:
    """The largest distance of (n, d) vectors from the first of them; 0 for fewer than two."""
    if len(vectors) < 2:
        return 0.0
    return float(np.sqrt(np.square(vectors - vectors[0], dtype=np.float64).sum(axis=1).max()))


def collapsed(before: Spread, after: Spread) -> bool:
    """Whether training brought all thumbnails, or all titles, to the same embedding.

    Thumbnails that the base model can't tell apart either, such as equal ones, are not training's fault.
    """
    return any(new <= _TOO_CLOSE and new < old / 10 for old, new in zip(before, after, strict=True))
