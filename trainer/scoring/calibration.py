"""From cosines to probabilities, pure: softmax over titles, with a scale that is fitted and judged on held-out rows.

One number is fitted (Guo et al. 2017, https://arxiv.org/abs/1706.04599: temperature scaling), so that little can be
fitted too closely. Targets are smoothed as Platt's are (1999): a model that is right about all of a few rows does not
get certainty from them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Calibration", "HeldOutScores", "Probability", "calibrate", "calibration_error", "probability"]

Scores = NDArray[np.floating]

_SCALES = (0.1, 1000.0)
_ROWS_PER_BIN, _MOST_BINS = 20, 10
_MOST_ODDS = 20.0


@dataclass(frozen=True)
class HeldOutScores:
    """The cosines of some thumbnails with all titles, by a model that was fitted without these thumbnails.

    Args:
        cosines: (m, n).
        own: (m,) the column of each thumbnail's own title.
        rivals: (m, n) bool, whether a title is another one than the thumbnail's own.
    """

    cosines: Scores
    own: NDArray[np.intp]
    rivals: NDArray[np.bool_]


@dataclass(frozen=True)
class Calibration:
    """How a model's cosines become probabilities, and how far these can be trusted.

    Args:
        scale: `softmax(scale * cosine)` over the titles is the probability of each.
        error: expected calibration error: the mean distance between the probability of the title ranked first and how
            often that title is right, over thumbnails of like probability. Each was given its probability by the scale
            of the other folds.
        n: held-out thumbnails.
        scales: the scale that each fold was judged by, fitted on the other folds.
    """

    scale: float
    error: float
    n: int
    scales: tuple[float, ...]


def calibrate(parts: Sequence[HeldOutScores]) -> Calibration:
    """Fit the scale on all folds, and judge it on each fold by the scale of the others.

    Args:
        parts: one for each fold, two or more, none of them empty.

    Raises:
        ValueError: there are fewer than two folds.
    """
    if len(parts) < 2:
        raise ValueError("calibration needs two folds or more")
    scales = tuple(_fit_scale([*parts[:at], *parts[at + 1 :]]) for at in range(len(parts)))
    first, right = [], []
    for part, scale in zip(parts, scales, strict=True):
        chances, hits = _first_ranked(part, scale)
        first.append(chances)
        right.append(hits)
    chances, hits = np.concatenate(first), np.concatenate(right)
    return Calibration(_fit_scale(parts), calibration_error(chances, hits), len(hits), scales)


def _fit_scale(parts: Sequence[HeldOutScores]) -> float:
    """The scale under which thumbnails most probably have their own titles."""
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 (a model that was calibrated before needs none)

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
    """(m, n + 1): the rivals' scores, then the own title's, once however often it occurs."""
    return np.concatenate([np.where(part.rivals, scores, -np.inf), mine[:, None]], axis=1)


def _first_ranked(part: HeldOutScores, scale: float) -> tuple[Scores, NDArray[np.bool_]]:
    """The probability of each thumbnail's first-ranked title, and whether that is its own."""
    mine = scale * part.cosines[np.arange(len(part.own)), part.own]
    scores = _own_and_rivals(scale * part.cosines, part, mine)
    return np.exp(scores.max(axis=1) - _logsumexp(scores)), scores[:, :-1].max(axis=1) < mine


def calibration_error(chances: Scores, hits: NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini et al. 2015), over bins of equal numbers of rows.

    There are at most 10 bins, of 20 rows or more where there are as many: smaller ones would measure chance.

    Args:
        chances: (n,) probabilities.
        hits: (n,) whether what they were given to was right.
    """
    order = np.argsort(chances, kind="stable")
    bins = np.array_split(order, min(_MOST_BINS, max(1, len(order) // _ROWS_PER_BIN)))
    return float(sum(abs(chances[rows].sum() - hits[rows].sum()) for rows in bins) / max(len(order), 1))


@dataclass(frozen=True, slots=True)
class Probability:
    """How probably a title is a thumbnail's own, and its spread over the folds.

    Args:
        value: 0 to 1.
        low, high: the least and the largest that the model, or one that had not seen a fold, gives it. This is no
            confidence interval: it says how far the answer depends on which four fifths of the videos were seen.
    """

    value: float
    low: float
    high: float

    def overlaps(self, other: Probability) -> bool:
        """Whether the two spreads have a value in common: then the folds do not tell which is the larger."""
        return self.low <= other.high and other.low <= self.high


def probability(calibration: Calibration, own: Sequence[float], rivals: Sequence[Scores]) -> Probability:
    """The probability of a title among its rivals.

    Args:
        calibration: of the model.
        own: the title's cosine by the model, then by the model of each fold; only the first if there is no such model.
        rivals: the other titles' cosines, (n,) each, by the same models.
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
    """Of each row; SciPy's takes half a second to import."""
    top = scores.max(axis=1, keepdims=True)
    return np.asarray(top[:, 0] + np.log(np.exp(scores - top).sum(axis=1)))
