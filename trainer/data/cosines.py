"""Cosine similarities of many vectors: float32 in bulk, float64 where rounding could change a comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DamagedModel

__all__ = ["Cosines", "Numbers", "Vectors"]

Vectors = NDArray[np.float32]
Numbers = NDArray[np.intp]

# The index of `nearest`: links per vector, the fewest candidates that a search keeps, and queries per search.
_LINKS = 32
_CANDIDATES = 128
_SEARCHES = 4096


class Cosines:
    """The cosine similarities between n vectors. A zero vector has cosine 0 with every vector.

    A float32 dot product of d numbers has an error of at most d 2^-24 times the vectors' norms, whatever the order of
    summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Cosines closer than twice
    that are computed again, each as a float64 sum over exact products, so that the result does not depend on blocks,
    threads, processor or library.

    Args:
        vectors: (n, d) float32; not copied, not changed.

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
        # Bounds the errors of products and sums, of the unit vectors' rounding, and of the comparisons.
        self._slack = (vectors.shape[1] + 16) * float(np.finfo(np.float32).eps)
        # Equal vectors share a number.
        seen: dict[bytes, int] = {}
        digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in vectors)
        self._same = np.fromiter((seen.setdefault(digest, len(seen)) for digest in digests), np.intp, len(vectors))

    def between(self, rows: Numbers, columns: Numbers) -> NDArray[np.float32]:
        """Return the cosines between two sets of vectors: (len(rows), len(columns)) float32, from a matrix product."""
        whole = len(columns) == len(self._unit)
        product: NDArray[np.float32] = self._unit[rows] @ (self._unit if whole else self._unit[columns]).T
        return product

    def exactly(self, row: int, columns: Numbers) -> NDArray[np.float64]:
        """Return the cosines of one vector with others: (len(columns),) float64, equal for equal vectors."""
        sums = np.multiply(self._vectors[columns], self._vectors[row], dtype=np.float64).sum(axis=1)
        cosines: NDArray[np.float64] = np.clip(sums / (self._lengths[columns] * self._lengths[row]), -1, 1)
        return cosines

    def lowest(self, row: int, similar: NDArray[np.float32], columns: Numbers | None = None) -> int | None:
        """Return the vector that is least similar to `row`.

        Args:
            row: the vector's number.
            similar: its cosines from `between`; infinity for a vector that must not be chosen.
            columns: ascending vector numbers; None: all.

        Returns:
            A vector's number, the lowest in a tie, or None if no vector may be chosen.
        """
        least = similar.min(initial=np.inf)
        if np.isinf(least):
            return None
        near = self._distinct(_numbers(similar <= least + self._slack, columns))
        return int(near[np.argmin(self.exactly(row, near))])

    def highest(
        self, row: int, similar: NDArray[np.float32], limit: float, columns: Numbers | None = None
    ) -> int | None:
        """Return the vector most similar to `row` of those with a cosine of at most `limit`; otherwise as `lowest`."""
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

        The numbers are ascending. Uses faiss's HNSW index (Malkov and Yashunin, https://arxiv.org/abs/1603.09320).
        Equal calls give equal results: the graph's levels have a fixed seed, and vectors are added one by one. The
        cosines are rounded as in `between`.
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
                # faiss returns -1 where the search found fewer.
                order = order[np.count_nonzero(columns < 0) :]
                yield similar[order], columns[order].astype(np.intp)

    def _distinct(self, numbers: Numbers) -> Numbers:
        """Return the first of each set of equal vectors, so that a thousand equal titles cost no more than one."""
        if len(numbers) == 1:
            return numbers
        return numbers[np.sort(np.unique(self._same[numbers], return_index=True)[1])]


def _numbers(mask: NDArray[np.bool_], columns: Numbers | None) -> Numbers:
    return np.flatnonzero(mask) if columns is None else columns[mask]
