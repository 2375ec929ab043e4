"""Check that embeddings can be compared. The ranks of a diverged model would have no meaning. Pure functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Spread", "collapsed", "spread", "why_unusable"]

Vectors = NDArray[np.float32]

Spread = tuple[float, float]
"""The spread of a model's embeddings of thumbnails, and of titles. See `spread`."""

# Rounding changes the length of a normalised float32 vector by about 1e-7.
_LENGTH_SLACK = 1e-3
# Unit vectors at this distance have a cosine of 1 - 5e-7, which a float32 product can't distinguish from 1.
_TOO_CLOSE = 1e-3


def why_unusable(vectors: Vectors) -> str | None:
    """Return why embeddings can't be compared; None if they can.

    Args:
        vectors: (n, d) float32 of length 1, as expected. Normalising gives zeros if a length overflows or underflows.
    """
    if not np.isfinite(vectors).all():
        return "not finite"
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    if (np.abs(lengths - 1) > _LENGTH_SLACK).any():
        return "without length"
    return None


def spread(vectors: Vectors) -> float:
    """Return the largest distance of (n, d) vectors from the first vector; 0 for fewer than two vectors."""
    if len(vectors) < 2:
        return 0.0
    return float(np.sqrt(np.square(vectors - vectors[0], dtype=np.float64).sum(axis=1).max()))


def collapsed(before: Spread, after: Spread) -> bool:
    """Whether training gave all thumbnails, or all titles, the same embedding.

    False if the base model can't distinguish them either, for example because they are equal.
    """
    return any(new <= _TOO_CLOSE and new < old / 10 for old, new in zip(before, after, strict=True))
