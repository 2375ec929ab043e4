"""Compute cosine similarities of many vectors: in float32, and in float64 where rounding could change a comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DamagedModel

__all__ = ["Cosines", "Numbers", "Vectors"]

Vectors = NDArray[np.float32]
Numbers = NDArray[np.intp]

# Parameters of the index in `nearest`: links per vector, minimum candidates kept by a search, queries per search.
_LINKS = 32
_CANDIDATES = 128
_SEARCHES = 4096


class Cosines:
    """Cosine similarities between n vectors. A zero vector has cosine 0 with every vector.

    A float32 dot product of d numbers has an error of at most d 2^-24 times the vectors' norms, whatever the order of
    summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Cosines closer than twice
    that error are computed again, each as a float64 sum over exact products. The result therefore does not depend on
    block size, thread count, processor or library.

    Args:
        vectors: (n, d) float32. They are neither copied nor changed.

    Raises:
        DamagedModel: a vector is not finite.
    """

    def __init__(self, vectors: Vectors) -> None:
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if not np.isfinite(lengths).all():
            raise DamagedModel(
                f"the title model's embeddings contain NaN or infinity (row {int(np.argmin(np.isfinite(lengths)))}); "
                "use another model with --title-model"
            )
        self._vectors = vectors
        self._lengths = np.maximum(lengths, np.finfo(np.float32).tiny)
        self._unit = vectors / self._lengths.astype(np.float32)[:, np.newaxis]
        # Upper bound for the errors of products and sums, of the unit vectors' rounding, and of the comparisons.
        self._slack = (vectors.shape[1] + 16) * float(np.finfo(np.float32).eps)
        # Equal vectors get the same number.
        seen: dict[bytes, int] = {}
        digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in vectors)
        self._same = np.fromiter((seen.setdefault(digest, len(seen)) for digest in digests), np.intp, len(vectors))

    def between(self, rows: Numbers, columns: Numbers) -> NDArray[np.float32]:
        """Return the cosines between two sets of vectors from a matrix product: (len(rows), len(columns)) float32."""
        whole = len(columns) == len(self._unit)
        product: NDArray[np.float32] = self._unit[rows] @ (self._unit if whole else self._unit[columns]).T
        return product

    def exactly(self, row: int, columns: Numbers) -> NDArray[np.float64]:
        """Return the cosines of one vector with others: (len(columns),) float64. Equal vectors get equal cosines."""
        sums = np.multiply(self._vectors[columns], self._vectors[row], dtype=np.float64).sum(axis=1)
        cosines: NDArray[np.float64] = np.clip(sums / (self._lengths[columns] * self._lengths[row]), -1, 1)
        return cosines

    def lowest(self, row: int, similar: NDArray[np.float32], columns: Numbers | None = None) -> int | None:
        """Return the vector that is least similar to `row`.

        Args:
            row: the number of the vector to compare with.
            similar: its cosines from `between`; infinity for a vector that must not be chosen.
            columns: ascending numbers of the vectors in `similar`; None for all vectors.

        Returns:
            The number of a vector (the lowest number in a tie), or None if no vector may be chosen.
        """
        least = similar.min(initial=np.inf)
        if np.isinf(least):
            return None
        near = self._distinct(_numbers(similar <= least + self._slack, columns))
        return int(near[np.argmin(self.exactly(row, near))])

    def highest(
        self, row: int, similar: NDArray[np.float32], limit: float, columns: Numbers | None = None
    ) -> int | None:
        """Return the vector most similar to `row` whose cosine is at most `limit`. See `lowest` for the rest."""
        most = similar[similar <= limit - self._slack].max(initial=-np.inf)
        near = _numbers((similar >= most - self._slack) & (similar <= limit + self._slack), columns)
        if not len(near):
            return None
        near = self._distinct(near)
        exact = self.exactly(row, near)
        exact[exact > limit] = -np.inf
        best = int(np.argmax(exact))
        return None if np.isinf(exact[best]) else int(near[best])

    def nearest(self, count: int) -> Iterator[tuple[NDArray[np.float32], Numbers]]:
        """Yield each vector's approximate nearest neighbours, itself included: at most `count` cosines and numbers.

        The numbers are ascending. Uses the HNSW index of faiss (Malkov and Yashunin, https://arxiv.org/abs/1603.09320).
        Equal calls give equal results: the levels of the graph have a fixed seed, and vectors are added in one thread.
        The cosines have the same rounding error as in `between`.
        """
        import faiss  # noqa: PLC0415 (only channels of more than 50,000 videos need it)

        n, d = self._unit.shape
        index = faiss.IndexHNSWFlat(d, _LINKS, faiss.METRIC_INNER_PRODUCT)
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            index.add(self._unit)
        finally:
            faiss.omp_set_num_threads(threads)
        index.hnsw.efSearch = max(_CANDIDATES, count)
        for start in range(0, n, _SEARCHES):
            found, numbers = index.search(self._unit[start : start + _SEARCHES], min(count, n))
            for similar, columns in zip(found, numbers, strict=True):
                order = np.argsort(columns)
                # faiss returns -1 for each neighbour that the search did not find.
                order = order[np.count_nonzero(columns < 0) :]
                yield similar[order], columns[order].astype(np.intp)

    def _distinct(self, numbers: Numbers) -> Numbers:
        """Return the first number of each set of equal vectors, so that equal titles are compared only once."""
        if len(numbers) == 1:
            return numbers
        return numbers[np.sort(np.unique(self._same[numbers], return_index=True)[1])]


def _numbers(mask: NDArray[np.bool_], columns: Numbers | None) -> Numbers:
    return np.flatnonzero(mask) if columns is None else columns[mask]
