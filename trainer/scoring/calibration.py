"""Convert cosines to probabilities by a softmax over titles, with a scale fitted on held-out rows. Pure functions.

This is temperature scaling (Guo et al. 2017, https://arxiv.org/abs/1706.04599). It fits a single number, which limits
overfitting. Targets are smoothed as in Platt (1999), so that a model that is right about all of a few rows does not get
probabilities of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.errors import Diverged

__all__ = ["Calibration", "HeldOutScores", "Probability", "calibrate", "calibration_error", "probability"]

Scores = NDArray[np.floating]

_SCALES = (0.1, 1000.0)
_ROWS_PER_BIN, _MOST_BINS = 20, 10
_MOST_ODDS = 20.0


@dataclass(frozen=True)
class HeldOutScores:
    """Cosines of m thumbnails with all n titles, by a model that was fitted without these thumbnails.

    Args:
        cosines: (m, n) float.
        own: (m,) int, the column of each thumbnail's own title.
        rivals: (m, n) bool, whether a title differs from the thumbnail's own title.
    """

    cosines: Scores
    own: NDArray[np.intp]
    rivals: NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """The scale that converts a model's cosines to probabilities, and the error of these probabilities.

    Args:
        scale: `softmax(scale * cosine)` over the titles gives their probabilities.
        error: expected calibration error: the mean difference between the probability of the first-ranked title and the
            proportion of cases in which it is right, over bins of thumbnails with similar probabilities. Each
            probability uses the scale that was fitted on the other folds.
        n: number of held-out thumbnails.
        scales: for each fold, the scale that was fitted on the other folds.
    """

    scale: float
    error: float
    n: int
    scales: tuple[float, ...]


def calibrate(parts: Sequence[HeldOutScores]) -> Calibration:
    """Fit the scale on all folds, and compute the error on each fold with a scale fitted on the other folds.

    Args:
        parts: the scores of each fold; at least two folds, without empty folds.

    Raises:
        ValueError: there are fewer than two folds.
        Diverged: a cosine is not finite.
    """
    if len(parts) < 2:
        raise ValueError("calibration needs at least two folds")
    if not all(np.isfinite(part.cosines).all() for part in parts):
        raise Diverged("the training diverges without some of the videos, so there are no probabilities")
    scales = tuple(_fit_scale([*parts[:at], *parts[at + 1 :]]) for at in range(len(parts)))
    first, right = [], []
    for part, scale in zip(parts, scales, strict=True):
        chances, hits = _first_ranked(part, scale)
        first.append(chances)
        right.append(hits)
    chances, hits = np.concatenate(first), np.concatenate(right)
    return Calibration(_fit_scale(parts), calibration_error(chances, hits), len(hits), scales)


def _fit_scale(parts: Sequence[HeldOutScores]) -> float:
    """The scale that maximises the likelihood of the thumbnails' own titles."""
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 (not needed for a calibrated model)

    n = sum(len(part.own) for part in parts)
    doubt = 1 / (n + 2)

    def loss(log_scale: float) -> float:
        scale, total = float(np.exp(log_scale)), 0.0
        for part in parts:
            rows = np.arange(len(part.own))
            scores = scale * part.cosines
            mine = scores[rows, part.own]
            whole = _logsumexp(_own_and_rivals(scores, part, mine))
            foreign = np.where(part.rivals, scores, 0).sum(axis=1) / np.maximum(part.rivals.sum(axis=1), 1)
            total += float((whole - (1 - doubt) * mine - doubt * foreign).sum())
        return total / n

    found = minimize_scalar(loss, bounds=tuple(np.log(_SCALES)), method="bounded")
    return float(np.exp(found.x))


def _own_and_rivals(scores: Scores, part: HeldOutScores, mine: Scores) -> Scores:
    """(m, n + 1): the rivals' scores, and the score of the own title in the last column."""
    return np.concatenate([np.where(part.rivals, scores, -np.inf), mine[:, None]], axis=1)


def _first_ranked(part: HeldOutScores, scale: float) -> tuple[Scores, NDArray[np.bool_]]:
    """The probability of each thumbnail's first-ranked title, and whether it is the own title."""
    mine = scale * part.cosines[np.arange(len(part.own)), part.own]
    scores = _own_and_rivals(scale * part.cosines, part, mine)
    return np.exp(scores.max(axis=1) - _logsumexp(scores)), scores[:, :-1].max(axis=1) < mine


def calibration_error(chances: Scores, hits: NDArray[np.bool_]) -> float:
    """Return the expected calibration error (Naeini et al. 2015) over bins with equal numbers of rows.

    There are at most 10 bins, with at least 20 rows each if there are enough rows, because smaller bins are noisy.

    Args:
        chances: (n,) float, the predicted probabilities.
        hits: (n,) bool, whether each prediction was right.
    """
    order = np.argsort(chances, kind="stable")
    bins = np.array_split(order, min(_MOST_BINS, max(1, len(order) // _ROWS_PER_BIN)))
    return float(sum(abs(chances[rows].sum() - hits[rows].sum()) for rows in bins) / max(len(order), 1))


@dataclass(frozen=True, slots=True)
class Probability:
    """The probability that a title is a thumbnail's own title, and its range over the folds.

    Args:
        value: the probability by the model, 0 to 1.
        low, high: the lowest and highest probability by the model and by the models fitted without one fold each. This
            is not a confidence interval. It shows how much the result depends on which four fifths of the videos were
            used.
    """

    value: float
    low: float
    high: float

    def overlaps(self, other: Probability) -> bool:
        """Whether the two ranges overlap. If so, the folds do not show which probability is higher."""
        return self.low <= other.high and other.low <= self.high


def probability(calibration: Calibration, own: Sequence[float], rivals: Sequence[Scores]) -> Probability:
    """Return the probability of a title among its rivals.

    Args:
        calibration: the calibration of the model.
        own: the title's cosine by the model, then by the model of each fold; only the first value if there are no
            models of folds.
        rivals: the cosines of the other titles, (n,) for each of the same models.
    """
    scales = (calibration.scale, *calibration.scales)
    if len(own) == 1:
        own, rivals = list(own) * len(scales), list(rivals) * len(scales)
    odds = [_log_odds(scale, mine, theirs) for scale, mine, theirs in zip(scales, own, rivals, strict=True)]
    return Probability(*(1 / (1 + math.exp(-at)) for at in (odds[0], min(odds), max(odds))))


def _log_odds(scale: float, mine: float, theirs: Scores) -> float:
    if not len(theirs):
        return _MOST_ODDS
    odds = scale * mine - float(_logsumexp(scale * theirs[None])[0])
    return min(max(odds, -_MOST_ODDS), _MOST_ODDS)


def _logsumexp(scores: Scores) -> Scores:
    """`logsumexp` of each row. SciPy's function takes half a second to import."""
    top = scores.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(scores - top).sum(axis=1)))
