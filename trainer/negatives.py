"""Choosing each row's negative title, pure: embeddings in, row numbers out. Called once for each split.

A row's negative is never its own title nor one of its group (equal titles, and titles of the same picture). So either
every row of a split has one, or, where the whole split is one group, none has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Assignment", "hard", "least_similar", "random_titles"]

Vectors = NDArray[np.float32]
Assignment = list[int | None]

# Rows of the similarity matrix held at once: 1,024 x 50,000 float32 are 205 MB.
_BLOCK_ROWS = 1024


def least_similar(vectors: Vectors, groups: Sequence[str]) -> Assignment:
    """Give each row the least similar title, greedily in row order, each title once: the recipe's rule.

    Where the recipe would give a row its own title (its last rows can have nothing else left), or one of its group, a
    row takes the least similar title that is allowed, though another row uses it too.

    Args:
        vectors: (n, d) title embeddings, float32, any length; compared by cosine.
        groups: n group labels; titles of one label are never each other's negative.

    Returns:
        n row numbers, or None for a row without any allowed title. Ties go to the lowest row number.
    """
    labels = _codes(groups)
    used = np.zeros(len(labels), dtype=bool)
    chosen: Assignment = []
    for start, block in _similarities(vectors):
        for offset, row in enumerate(block):
            forbidden = labels == labels[start + offset]
            pick = _lowest(row, forbidden | used)
            if pick is None:
                pick = _lowest(row, forbidden)
            if pick is not None:
                used[pick] = True
            chosen.append(pick)
    return chosen


def hard(vectors: Vectors, groups: Sequence[str], max_similarity: float) -> Assignment:
    """Give each row the most similar title that is not a likely paraphrase; a title may serve many rows.

    A row whose allowed titles are all more alike than `max_similarity` takes the least similar of them.

    Args:
        vectors: (n, d) title embeddings, float32; compared by cosine.
        groups: n group labels; titles of one label are never each other's negative.
        max_similarity: cosine above which two titles are taken for paraphrases.

    Returns:
        n row numbers, or None for a row without any allowed title. Ties go to the lowest row number.
    """
    labels = _codes(groups)
    chosen: Assignment = []
    for start, block in _similarities(vectors):
        for offset, row in enumerate(block):
            forbidden = labels == labels[start + offset]
            pick = _lowest(-row, forbidden | (row > max_similarity))
            chosen.append(_lowest(row, forbidden) if pick is None else pick)
    return chosen


def random_titles(groups: Sequence[str], seed: int) -> Assignment:
    """Give each row any title outside its group, all equally likely.

    Args:
        groups: n group labels.
        seed: of NumPy's default generator; the same seed gives the same titles.

    Returns:
        n row numbers, or None for a row without any allowed title.
    """
    labels = _codes(groups)
    members = {int(code): np.flatnonzero(labels == code) for code in np.unique(labels)}
    generator = np.random.default_rng(seed)
    chosen: Assignment = []
    for code in labels:
        own = members[int(code)]
        allowed = len(labels) - len(own)
        if allowed == 0:
            chosen.append(None)
            continue
        # The k-th row outside the group: each member at or before it shifts it by one.
        pick = int(generator.integers(allowed))
        for member in own:
            pick += int(member) <= pick
        chosen.append(pick)
    return chosen


def _codes(groups: Sequence[str]) -> NDArray[np.intp]:
    return np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1].reshape(-1)


def _similarities(vectors: Vectors) -> Iterator[tuple[int, Vectors]]:
    """Cosine similarities in blocks of rows: (first row, (rows, n) float32)."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    for start in range(0, len(unit), _BLOCK_ROWS):
        yield start, unit[start : start + _BLOCK_ROWS] @ unit.T


def _lowest(row: Vectors, forbidden: NDArray[np.bool_]) -> int | None:
    if forbidden.all():
        return None
    return int(np.argmin(np.where(forbidden, np.inf, row)))
