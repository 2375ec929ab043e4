"""A ridge map from titles to thumbnails, shrunk towards the identity, in closed form. Pure, float64.

Of n rows with title vectors Y and thumbnail vectors X it is the matrix M that minimises

    |Y M - X|^2 / n + penalty * |M - I|^2

The titles are mapped, because they are the candidates: where the thumbnails are mapped instead, a few titles become the
nearest ones of most (Shigeto et al., Ridge Regression, Hubness, and Zero-Shot Learning, 2015), and on the drawn channel
the gain is half of this one.

so a large penalty leaves the base model as it is, and a small one fits the rows. There is one solution, without a seed
or a learning rate. It has no bias, so it goes into a projection without a bias exactly: `normalize(h P) M` points where
`h (P M)` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.scoring import Rows, candidate_ranks, folds

__all__ = ["PENALTIES", "Chosen", "Ridge", "choose_penalty", "fit_ridge", "unit"]

Matrix = NDArray[np.float64]

PENALTIES: tuple[float, ...] = tuple(float(10**exponent) for exponent in np.arange(2.0, -5.1, -0.5))
"""From the strongest to the weakest; vectors have length 1."""


class Ridge:
    """The decomposition of some rows, from which the map of any penalty follows by two products.

    Args:
        source: (n, d) vectors to map, at least one row: the titles.
        target: (n, d) vectors to come near: their thumbnails.
    """

    def __init__(self, source: Matrix, target: Matrix) -> None:
        n, width = source.shape
        if n < width:
            left, lengths, right = np.linalg.svd(source, full_matrices=False)
            self._vectors, self._values = right.T, lengths**2 / n
            # Towards the identity: what is fitted is the difference that it leaves.
            self._wanted = (lengths / n)[:, None] * (left.T @ (target - source))
        else:
            values, self._vectors = np.linalg.eigh(source.T @ source / n)
            self._values = np.maximum(values, 0.0)
            self._wanted = self._vectors.T @ (source.T @ (target - source) / n)
        self._width = width

    def project(self, vectors: Matrix) -> Matrix:
        """The coordinates of other vectors, (m, d), in the decomposition: what `mapped` takes, for all penalties."""
        return np.asarray(vectors @ self._vectors)

    def mapped(self, vectors: Matrix, projected: Matrix, penalty: float) -> Matrix:
        """`vectors @ map(penalty)`, (m, d), with `projected` as `project` gave it; the map itself is not formed."""
        return np.asarray(vectors + (projected / (self._values + penalty)) @ self._wanted)

    def map(self, penalty: float) -> Matrix:
        """The map M, (d, d), for a penalty above 0; apply it as `vectors @ M`."""
        change = self._vectors @ (self._wanted / (self._values + penalty)[:, None])
        return np.asarray(np.eye(self._width) + change)


def fit_ridge(source: Matrix, target: Matrix, penalty: float) -> Matrix:
    """The map M, (d, d); arguments as for `Ridge`.

    Raises:
        ValueError: the penalty is not above 0.
    """
    if not penalty > 0:
        raise ValueError(f"the penalty {penalty} is not above 0")
    return Ridge(source, target).map(penalty)


def unit(vectors: Matrix) -> Matrix:
    """The rows with length 1; rows of zeros stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


@dataclass(frozen=True)
class Chosen:
    """A penalty, and how good each one was on held-out rows.

    Args:
        penalty: the chosen one; None where the base model's own vectors are at least as good as any map.
        reciprocal_ranks: the mean reciprocal rank of held-out rows for each of the penalties given.
        untrained: the same without any map.
    """

    penalty: float | None
    reciprocal_ranks: tuple[float, ...]
    untrained: float


def choose_penalty(
    pictures: Matrix,
    titles: Matrix,
    groups: Sequence[str],
    labels: Rows,
    penalties: Sequence[float] = PENALTIES,
) -> Chosen:
    """Choose the penalty by how well held-out thumbnails find their titles among all, in five grouped folds.

    By the mean reciprocal rank: recall@1 of a few rows is too coarse. Equal ones: the stronger penalty, if it comes
    first.

    Args:
        pictures: (n, d) vectors of length 1.
        titles: (n, d) of length 1.
        groups: n labels: a group is held out as a whole.
        labels: (n,) numbers that are equal for equal titles.
        penalties: those to choose from, the strongest first.

    Returns:
        The choice; no map for fewer than two groups.
    """
    cut = folds(groups)
    totals, untrained = np.zeros(len(penalties)), 0.0
    for fold in cut:
        ridge = Ridge(titles[fold.fit], pictures[fold.fit])
        held_out = pictures[fold.held_out]
        projected = ridge.project(titles)
        untrained += _reciprocal(held_out, titles, fold.held_out, labels)
        for at, penalty in enumerate(penalties):
            totals[at] += _reciprocal(held_out, unit(ridge.mapped(titles, projected, penalty)), fold.held_out, labels)
    n = len(groups)
    best = int(totals.argmax())
    chosen = float(penalties[best]) if cut and totals[best] > untrained else None
    return Chosen(chosen, tuple((totals / n).tolist()), untrained / n)


def _reciprocal(pictures: Matrix, titles: Matrix, own: Rows, labels: Rows) -> float:
    return float((1.0 / candidate_ranks(pictures, titles, own, labels)).sum())
