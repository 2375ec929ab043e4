"""Combine two models by a weighted sum of their cosines, with weights fitted on held-out rows. Pure functions.

The score of a thumbnail and a title is `first * cosine of the first model + second * cosine of the second model`. The
weights add up to 1. If a model has no information about a thumbnail (the reader, for a thumbnail without words), its
cosine with every title is 0, so only the other model affects the ranking.
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
    """The weights of two models.

    Args:
        first, second: weights of the cosines, 0 to 1. They add up to 1.
        scale: `softmax(scale * score)` over the titles gives their probabilities.
    """

    first: float
    second: float
    scale: float


def fit_weights(first: Scores, second: Scores, own: Sequence[int], rivals: NDArray[np.bool_]) -> tuple[Weights, float]:
    """Fit the weights that maximise the likelihood of the thumbnails' own titles, by softmax over the titles.

    The log-likelihood is concave in the two weights before they are scaled to add up to 1, so the maximum is global,
    and a model without information about these rows gets weight 0. A small penalty keeps the scale finite if all rows
    are ranked correctly.

    Args:
        first: (m, n) cosines of m thumbnails with n titles, by a model that was fitted without these rows.
        second: (m, n) cosines by the other model.
        own: m columns, the own title of each thumbnail.
        rivals: (m, n) bool, whether a title differs from the thumbnail's own title.

    Returns:
        The weights, equal if there are no rows; and the mean negative log-likelihood with the penalty, in nats.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 (not needed for a model with fitted weights)

    rows = np.arange(len(own))
    columns = np.asarray(own, dtype=np.intp)
    if not len(rows):
        return Weights(0.5, 0.5, 1.0), 0.0
    gaps = [scores - scores[rows, columns][:, None] for scores in (first, second)]

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        # The loss is log(1 + sum over the rivals of exp(lead over the own title)).
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
        return Weights(0.5, 0.5, 0.0), float(found.fun)
    return Weights(float(found.x[0] / scale), float(found.x[1] / scale), scale), float(found.fun)


def side_by_side(first: Vectors, second: Vectors, weights: Weights) -> Vectors:
    """Concatenate vectors of two models: (n, d + e) float32. Their dot products are the weighted sums of both cosines.

    If both vectors have length 1, the result has length 1 too.

    Args:
        first: (n, d) float32 of length 1.
        second: (n, e) float32 of length 1.
        weights: see `fit_weights`.
    """
    parts = (np.float32(np.sqrt(weights.first)) * first, np.float32(np.sqrt(weights.second)) * second)
    return np.concatenate(parts, axis=1).astype(np.float32)
