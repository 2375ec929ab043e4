"""A ridge map from titles to thumbnails, shrunk towards the identity, in closed form. Pure functions on float64.

For n rows with title vectors Y and thumbnail vectors X, it is the matrix M that minimises

    |Y M - X|^2 / n + penalty * |M - I|^2

A large penalty keeps the base model almost unchanged, and a small penalty fits the rows. The solution is unique, and
needs no seed and no learning rate. M has no bias, so it can be merged into a projection P without a bias:
`normalize(h P) M` and `h (P M)` have the same direction.

The titles are mapped because they are the candidates. If the thumbnails are mapped instead, a few titles become the
nearest titles of most thumbnails (Shigeto et al., Ridge Regression, Hubness, and Zero-Shot Learning, 2015), and on the
demo channel the gain is half as large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.fitting.grid import best_on_folds
from trainer.scoring import Fold, Rows, reciprocal_ranks

__all__ = ["Ridge", "choose_penalty", "unit"]

Matrix = NDArray[np.float64]

PENALTIES: tuple[float, ...] = tuple(float(10**exponent) for exponent in np.arange(2.0, -5.1, -0.5))
"""Penalties for vectors of length 1, the strongest first."""


class Ridge:
    """A decomposition of the rows that gives the map for any penalty by two matrix products.

    Args:
        source: (n, d) the vectors to map (titles), at least one row.
        target: (n, d) the vectors to approximate (their thumbnails).
    """

    def __init__(self, source: Matrix, target: Matrix) -> None:
        n, width = source.shape
        if n < width:
            left, lengths, right = np.linalg.svd(source, full_matrices=False)
            self._vectors, self._values = right.T, lengths**2 / n
            # The penalty is on M - I, so the map is fitted to the residual `target - source`.
            self._wanted = (lengths / n)[:, None] * (left.T @ (target - source))
        else:
            self._take(n, source.T @ source, source.T @ (target - source))
        self._width = width

    @classmethod
    def of_blocks(cls, blocks: Iterable[tuple[Matrix, Matrix]]) -> Ridge:
        """Return the decomposition of at least d rows that come in blocks of (source, target)."""
        n, squares, residuals = 0, np.zeros((1, 1)), np.zeros((1, 1))
        for source, target in blocks:
            n += len(source)
            squares = squares + source.T @ source
            residuals = residuals + source.T @ (target - source)
        found = cls.__new__(cls)
        found._take(n, squares, residuals)
        found._width = len(squares)
        return found

    def _take(self, n: int, squares: Matrix, residuals: Matrix) -> None:
        values, self._vectors = np.linalg.eigh(squares / n)
        self._values = np.maximum(values, 0.0)
        self._wanted = self._vectors.T @ (residuals / n)

    def project(self, vectors: Matrix) -> Matrix:
        """Return the coordinates of (m, d) vectors in the decomposition. `mapped` needs them, for any penalty."""
        return np.asarray(vectors @ self._vectors)

    def mapped(self, vectors: Matrix, projected: Matrix, penalty: float) -> Matrix:
        """Return `vectors @ map(penalty)`, (m, d), without computing the map. `projected` is `project(vectors)`."""
        return np.asarray(vectors + (projected / (self._values + penalty)) @ self._wanted)

    def map(self, penalty: float) -> Matrix:
        """Return the map M, (d, d), for a penalty above 0. Apply it as `vectors @ M`."""
        change = self._vectors @ (self._wanted / (self._values + penalty)[:, None])
        return np.asarray(np.eye(self._width) + change)


def unit(vectors: Matrix) -> Matrix:
    """Normalise the rows to length 1. Rows of zeros do not change."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def choose_penalty(pictures: Matrix, titles: Matrix, groups: Sequence[str], labels: Rows) -> float | None:
    """Choose the penalty with the best `reciprocal_ranks` of held-out thumbnails' titles, in five grouped folds.

    Recall@1 of a few rows would be too coarse. In a tie, the strongest penalty is chosen.

    Args:
        pictures: (n, d) vectors of the thumbnails, of length 1.
        titles: (n, d) vectors of the titles, of length 1.
        groups: n group labels. A group is held out as a whole.
        labels: (n,) numbers that are equal for equal titles.

    Returns:
        One of `PENALTIES`; None if none is better than no map, or if there are fewer than two groups.
    """

    def fitted_on(fold: Fold) -> Callable[[float | None], float]:
        ridge = Ridge(titles[fold.fit], pictures[fold.fit])
        held_out, projected = pictures[fold.held_out], ridge.project(titles)

        def score(penalty: float | None) -> float:
            mapped = titles if penalty is None else unit(ridge.mapped(titles, projected, penalty))
            return reciprocal_ranks(held_out, mapped, fold.held_out, labels)

        return score

    return best_on_folds(PENALTIES, groups, fitted_on)
