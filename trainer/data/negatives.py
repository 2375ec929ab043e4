"""Choose each row's negative title. Pure functions from embeddings to row numbers, called once per split or channel.

A row's negative is never its own title nor a title of its group (equal titles, and titles of the same thumbnail). Every
row of a split gets a negative, unless the whole split is one group: then no row gets a negative.

The choice does not depend on rounding. The last bits of a float32 matrix product depend on how it is divided and on the
processor, so titles within that error are compared again in float64 (`trainer.data.cosines`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.cosines import Cosines, Numbers, Vectors
from trainer.data.splits import numbers_of

__all__ = ["EXACT_UP_TO", "LEAST_SIMILAR_UP_TO", "Assignment", "hard", "least_similar", "random_titles"]

Assignment = list[int | None]

EXACT_UP_TO = 50_000
"""Up to this number of titles, `hard` compares all pairs. With more titles, it searches neighbours in a faiss index."""

LEAST_SIMILAR_UP_TO = 500_000
"""The most titles that `least_similar` compares with each other. The time grows with their square: 50,000 titles take
13 s on two cores (docs/performance.md), 500,000 a hundred times as long, and 1,000,000 more than an hour."""

# Rows of the similarity matrix in memory: 1,024, or fewer if a row has more than 50,000 float32 values.
_BLOCK_ROWS = 1024
_BLOCK_BYTES = _BLOCK_ROWS * 50_000 * 4


def least_similar(vectors: Vectors, groups: Sequence[str]) -> Assignment:
    """Give each row the least similar title, greedily in row order, using each title once, as in the original recipe.

    If the recipe would give a row its own title (the last rows can run out of others) or a title of its group, the row
    gets the least similar allowed title, even if another row uses it.

    Titles that are already used are left out of later products, which halves the multiplications.

    Args:
        vectors: (n, d) float32 title embeddings of any norm. They are compared by cosine.
        groups: n group labels. Titles with the same label are never each other's negative.

    Returns:
        n row numbers; None for a row without an allowed title. Ties go to the lowest row number.

    Raises:
        DamagedModel: a vector is not finite.
    """
    cosines, labels = Cosines(vectors), numbers_of(groups)
    chosen: Assignment = []
    unused = np.arange(len(labels))
    while len(chosen) < len(labels):
        rows = np.arange(len(chosen), len(labels))[: _rows_at_once(len(unused))]
        picks = _greedy(cosines, labels, rows, unused)
        chosen += picks
        unused = np.setdiff1d(unused, [pick for pick in picks if pick is not None], assume_unique=True)
    # These rows only get titles that are already used, so choosing for them last does not affect the other rows.
    left = np.asarray([row for row, pick in enumerate(chosen) if pick is None], dtype=np.intp)
    for row, similar in _allowed(cosines, labels, left):
        chosen[row] = cosines.lowest(row, similar)
    return chosen


def _greedy(cosines: Cosines, labels: Numbers, rows: Numbers, columns: Numbers) -> Assignment:
    """Give each of `rows`, in order, the least similar of `columns` that is allowed and not yet used."""
    own, used = labels[columns], np.zeros(len(columns), dtype=bool)
    picks: Assignment = []
    for row, similar in zip(rows, cosines.between(rows, columns), strict=True):
        similar[used | (own == labels[row])] = np.inf
        pick = cosines.lowest(row, similar, columns)
        if pick is not None:
            used[np.searchsorted(columns, pick)] = True
        picks.append(pick)
    return picks


def hard(
    vectors: Vectors,
    groups: Sequence[str],
    max_similarity: float,
    *,
    exact_up_to: int = EXACT_UP_TO,
    neighbours: int = 64,
) -> Assignment:
    """Give each row the most similar title that is not a likely paraphrase. Rows may share a title.

    A row whose allowed titles are all more similar than `max_similarity` gets the least similar of them.

    With more than `exact_up_to` titles, each row is compared with its nearest `neighbours` from an approximate index.
    The index may miss a slightly more similar title, but the choice follows the same rules. A row without an allowed
    neighbour is compared with all titles.

    Args:
        vectors: (n, d) float32 title embeddings. They are compared by cosine.
        groups: n group labels. Titles with the same label are never each other's negative.
        max_similarity: titles with a higher cosine are treated as paraphrases.
        exact_up_to: maximum number of titles for which all pairs are compared.
        neighbours: titles to compare per row if there are more titles than `exact_up_to`.

    Returns:
        n row numbers; None for a row without an allowed title. Ties go to the lowest row number.

    Raises:
        DamagedModel: a vector is not finite.
    """
    cosines, labels = Cosines(vectors), numbers_of(groups)
    chosen: Assignment = [None] * len(labels)
    if len(labels) > exact_up_to:
        for row, (similar, columns) in enumerate(cosines.nearest(neighbours)):
            similar[labels[columns] == labels[row]] = np.inf
            chosen[row] = cosines.highest(row, similar, max_similarity, columns)
    left = np.asarray([row for row, pick in enumerate(chosen) if pick is None], dtype=np.intp)
    for row, similar in _allowed(cosines, labels, left):
        pick = cosines.highest(row, similar, max_similarity)
        chosen[row] = cosines.lowest(row, similar) if pick is None else pick
    return chosen


def random_titles(groups: Sequence[str], seed: int | Sequence[int]) -> Assignment:
    """Give each row a title outside its group, with equal probabilities.

    Args:
        groups: n group labels.
        seed: seed for NumPy's default generator.

    Returns:
        n row numbers; None for a row without an allowed title.
    """
    labels = numbers_of(groups)
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    generator = np.random.default_rng(seed)
    chosen: Assignment = []
    for code in labels:
        own = members[int(code)]
        allowed = len(labels) - len(own)
        if allowed == 0:
            chosen.append(None)
            continue
        # Find the k-th row outside the group: each group member at or before it adds one to its number.
        pick = int(generator.integers(allowed))
        for member in own:
            pick += int(member) <= pick
        chosen.append(pick)
    return chosen


def _allowed(cosines: Cosines, labels: Numbers, rows: Numbers) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield each of `rows` with its n cosines, infinity for its own group. One block of rows is in memory at a time."""
    everything = np.arange(len(labels))
    step = _rows_at_once(len(labels))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        for row, similar in zip(block, cosines.between(block, everything), strict=True):
            similar[labels == labels[row]] = np.inf
            yield int(row), similar


def _rows_at_once(columns: int) -> int:
    return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // (4 * max(1, columns))))
