"""Regularised canonical correlation analysis of thumbnails and titles, in closed form. Pure functions on float64.

For n rows with thumbnail vectors X and title vectors Y, with a penalty p > 0 and a prior of 0 or 1, let

    Cxx = X'X/n + p I,   Cyy = Y'Y/n + p I,   Cxy = X'Y/n + prior p I

and let U S V' be the singular value decomposition of Cxx^-1/2 Cxy Cyy^-1/2. The maps are Cxx^-1/2 U S^1.5 for
thumbnails and Cyy^-1/2 V S^1.5 for titles: both are whitened, rotated to their canonical directions, and each direction
is weighted by its correlation S (Gong et al., A Multi-View Embedding Space, 2014, https://arxiv.org/abs/1212.4522).

With a prior of 1, the penalty is worth rows whose thumbnail and title vectors are equal, so a large penalty gives the
base model. With a prior of 0, the maps only use what the rows show, for a base model that knows little about a channel.
Both sides are whitened, so no thumbnail or title is near all others, and both directions of search improve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.fitting.grid import best_on_folds
from trainer.fitting.ridge import unit
from trainer.scoring import Fold, Rows, both_ways

__all__ = ["Cca", "Strength", "choose_strength"]

Matrix = NDArray[np.float64]

_POWER = 1.5
_NO_VARIANCE = 1e-12
"""The variance of an axis, as a share of the largest, below which it is rounding."""


@dataclass(frozen=True, slots=True)
class Strength:
    """How strongly the maps are regularised: see the module.

    Args:
        penalty: above 0, for vectors of length 1.
        prior: 1: towards the base model; 0: towards no relation.
    """

    penalty: float
    prior: int


GRID: tuple[Strength, ...] = (
    *(Strength(10.0**exponent, 1) for exponent in (1, 0, -1, -2, -3, -4)),
    *(Strength(float(10**exponent), 0) for exponent in (-1.0, -2.0, -2.5, -3.0, -3.5, -4.0)),
)
"""The strengths to choose from; the first ones hardly change the base model."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Thumbnails and titles in the axes of a `Cca`.

    Args:
        inside: two (m, r) arrays, coordinates in the span of the rows.
        outside: two (m, d) arrays, the parts of the vectors outside of the span; None if it has all dimensions.
    """

    inside: tuple[Matrix, Matrix]
    outside: tuple[Matrix, Matrix] | None


class Cca:
    """Statistics of the rows that give the maps for any strength.

    Args:
        pictures: (n, d) the thumbnails' vectors, at least one row.
        titles: (n, d) the titles' vectors.
    """

    def __init__(self, pictures: Matrix, titles: Matrix) -> None:
        n, width = pictures.shape
        # In the dimensions outside of the rows' span, the maps are known: see `maps`.
        self._span = None if 2 * n >= width else _span(pictures, titles)
        if self._span is not None:
            pictures, titles = pictures @ self._span, titles @ self._span
        self._take(n, pictures.T @ pictures, titles.T @ titles, pictures.T @ titles)

    @classmethod
    def of_blocks(cls, blocks: Iterable[tuple[Matrix, Matrix]]) -> Cca:
        """Return the statistics of rows that come in blocks of (thumbnails, titles), at least (d + 1) / 2 rows."""
        n, sums = 0, [np.zeros((1, 1)) for _ in range(3)]
        for pictures, titles in blocks:
            n += len(pictures)
            sums[0] = sums[0] + pictures.T @ pictures
            sums[1] = sums[1] + titles.T @ titles
            sums[2] = sums[2] + pictures.T @ titles
        found = cls.__new__(cls)
        found._span = None
        found._take(n, *sums)
        return found

    def _take(self, n: int, pictures: Matrix, titles: Matrix, cross: Matrix) -> None:
        # In the axes of both sides, in which whitening only scales, so that a strength takes few matrix products.
        (self._of_pictures, pictures), (self._of_titles, titles) = map(_axes, (pictures / n, titles / n))
        self._pictures, self._titles = pictures, titles
        self._cross, self._same = pictures.T @ (cross / n) @ titles, pictures.T @ titles

    def maps(self, strength: Strength) -> tuple[Matrix, Matrix]:
        """Return the maps of thumbnails and titles, two (d, d) matrices. Apply them as `vectors @ map`."""
        of_pictures, of_titles = self._directions(strength)
        zeros = (0, 0), (len(self._pictures) - of_pictures.shape[1], 0)
        found = np.pad(self._pictures @ of_pictures, zeros), np.pad(self._titles @ of_titles, zeros)
        if self._span is None:
            return found
        span = self._span
        rest = _outside(strength) * (np.eye(len(span)) - span @ span.T)
        return span @ found[0] @ span.T + rest, span @ found[1] @ span.T + rest

    def coordinates(self, pictures: Matrix, titles: Matrix) -> Coordinates:
        """Return the coordinates of (m, d) thumbnails and (m, d) titles, which `mapped` needs for any strength."""
        if self._span is None:
            return Coordinates((pictures @ self._pictures, titles @ self._titles), None)
        inside = pictures @ self._span, titles @ self._span
        outside = pictures - inside[0] @ self._span.T, titles - inside[1] @ self._span.T
        return Coordinates((inside[0] @ self._pictures, inside[1] @ self._titles), outside)

    def mapped(self, at: Coordinates, strength: Strength) -> tuple[Matrix, Matrix]:
        """Apply `maps(strength)` without computing them: two (m, k) arrays. Only their cosines are the same."""
        of_pictures, of_titles = self._directions(strength)
        found = at.inside[0] @ of_pictures, at.inside[1] @ of_titles
        if at.outside is None or not strength.prior:
            return found
        scale = _outside(strength)
        return np.hstack([found[0], scale * at.outside[0]]), np.hstack([found[1], scale * at.outside[1]])

    def _directions(self, strength: Strength) -> tuple[Matrix, Matrix]:
        """The maps in the axes of both sides: two (d, k) matrices. Without a prior, k is at most the number of rows."""
        penalty, prior = strength.penalty, strength.prior
        # Without a prior, axes without variance have no correlation, so their directions are zero. There are many if
        # there are fewer rows than dimensions.
        flat = (0, 0) if prior else (_count_flat(self._of_pictures), _count_flat(self._of_titles))
        of_pictures = 1 / np.sqrt(self._of_pictures[flat[0] :] + penalty)
        of_titles = 1 / np.sqrt(self._of_titles[flat[1] :] + penalty)
        together = self._cross + prior * penalty * self._same
        common = of_pictures[:, None] * together[flat[0] :, flat[1] :] * of_titles
        squares, left = np.linalg.eigh(common @ common.T)
        correlations = np.sqrt(np.maximum(squares, 0.0))
        found = np.zeros((len(self._of_pictures), len(left))), np.zeros((len(self._of_titles), len(left)))
        found[0][flat[0] :] = of_pictures[:, None] * (left * correlations**_POWER)
        # V S = common' U, so V is not computed.
        found[1][flat[1] :] = of_titles[:, None] * (common.T @ (left * correlations ** (_POWER - 1)))
        return found


def _outside(strength: Strength) -> float:
    """The factor of both maps outside of the rows' span: both whitenings are I / sqrt(penalty), and S is the prior."""
    return float(strength.prior / np.sqrt(strength.penalty))


def _span(pictures: Matrix, titles: Matrix) -> Matrix:
    """An orthonormal basis of the at most 2 n dimensions that (n, d) vectors span: (d, 2 n), for 2 n <= d."""
    return np.linalg.qr(np.vstack([pictures, titles]).T)[0]


def _axes(covariance: Matrix) -> tuple[Matrix, Matrix]:
    """The variances along the principal axes, ascending, and the axes as columns."""
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values, 0.0), vectors


def _count_flat(variances: Matrix) -> int:
    """The number of axes whose variance is 0, but for rounding."""
    return int(np.searchsorted(variances, _NO_VARIANCE * variances[-1]))


def choose_strength(pictures: Matrix, titles: Matrix, groups: Sequence[str], labels: Rows) -> Strength | None:
    """Choose the strength with the best `both_ways` of held-out rows, in five grouped folds.

    In a tie, the strength that changes the base model least is chosen.

    Args:
        pictures: (n, d) vectors of the thumbnails, of length 1.
        titles: (n, d) vectors of the titles, of length 1.
        groups: n group labels. A group is held out as a whole.
        labels: (n,) numbers that are equal for equal titles.

    Returns:
        One of `GRID`; None if none is better than the vectors as they are, or if there are fewer than two groups.
    """
    if 2 * len(pictures) < pictures.shape[1]:
        # All cosines, trained and untrained, are the same in the span of all rows, and maps of fewer dimensions take
        # a fraction of the time.
        span = _span(pictures, titles)
        pictures, titles = pictures @ span, titles @ span

    def fitted_on(fold: Fold) -> Callable[[Strength | None], float]:
        cca = Cca(pictures[fold.fit], titles[fold.fit])
        at = cca.coordinates(pictures, titles)

        def score(strength: Strength | None) -> float:
            seen, said = (pictures, titles) if strength is None else cca.mapped(at, strength)
            return both_ways(unit(seen), unit(said), fold.held_out, labels)

        return score

    return best_on_folds(GRID, groups, fitted_on)
