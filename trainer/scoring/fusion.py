"""Two models as one, pure: the sum of their cosines, with two weights fitted on held-out rows.

The score of a thumbnail and a title is `first * cosine of the first model + second * cosine of the second`, with
weights that add up to 1. A thumbnail of which a model knows nothing (the reader, if there are no words) has a cosine
of 0 with every title: there the other model decides alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Weights", "fit_weights", "side_by_side"]

Vectors = NDArray[np.float32]
Scores = NDArray[np.float64]

_SHRINKAGE = 1e-3
_LARGEST = 200.0


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each model says.

    Args:
        first, second: of their cosines, 0 to 1, adding up to 1.
        scale: `softmax(scale * score)` over the titles is the probability of each.
    """

    first: float
    second: float
    scale: float


def fit_weights(first: Scores, second: Scores, own: Sequence[int], rivals: NDArray[np.bool_]) -> Weights:
    """The weights under which thumbnails most probably have their own titles, by softmax over the candidates.

    The likelihood is concave in the two weights before they are made to add up to 1, so there is one best pair, and a
    model that knows nothing of these rows gets none. A slight shrinkage keeps the scale finite where all is right.

    Args:
        first: (m, n) cosines of m thumbnails with n titles, of a model that has not seen these rows.
        second: the same of the other model.
        own: m columns: each thumbnail's title.
        rivals: (m, n) whether a title is another one than the thumbnail's own; equal titles are left out.

    Returns:
        The weights; equal ones for no rows.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 (a model that was weighed before needs none)

    rows = np.arange(len(own))
    columns = np.asarray(own, dtype=np.intp)
    if not len(rows):
        return Weights(0.5, 0.5, 1.0)
    gaps = [scores - scores[rows, columns][:, None] for scores in (first, second)]

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # log(1 + sum over the rivals of exp(their lead)), and its gradient; the own title's lead is 0.
        lead = np.where(rivals, at[0] * gaps[0] + at[1] * gaps[1], -np.inf)
        top = np.maximum(lead.max(axis=1, initial=0.0), 0.0)[:, None]
        parts = np.exp(lead - top)
        whole = parts.sum(axis=1, keepdims=True) + np.exp(-top)
        share = parts / whole
        value = float((np.log(whole) + top).mean())
        slope = np.array([(share * gap).sum(axis=1).mean() for gap in gaps])
        return value + _SHRINKAGE * float(at @ at) / 100, slope + 2 * _SHRINKAGE * at / 100

    found = minimize(loss, np.array([5.0, 5.0]), jac=True, method="L-BFGS-B", bounds=[(0.0, _LARGEST)] * 2)
    scale = float(found.x.sum())
    if scale < 1e-6:
        return Weights(0.5, 0.5, 0.0)
    return Weights(float(found.x[0] / scale), float(found.x[1] / scale), scale)


def side_by_side(first: Vectors, second: Vectors, weights: Weights) -> Vectors:
    """Vectors of two models in one: (n, d + e) float32, whose products are the weighted sums of both cosines.

    Where both models have a vector of length 1, so has the result.

    Args:
        first: (n, d) float32 of length 1.
        second: (n, e) float32 of length 1.
        weights: see `fit_weights`.
    """
    parts = (np.float32(np.sqrt(weights.first)) * first, np.float32(np.sqrt(weights.second)) * second)
    return np.concatenate(parts, axis=1).astype(np.float32)
