"""Cosines of many vectors: float32 in bulk, and float64 wherever rounding could decide which of two is greater."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainer.errors import DamagedModel

__all__ = ["Cosines", "Numbers", "Vectors"]

Vectors = NDArray[np.float32]
Numbers = NDArray[np.intp]

# The index of `nearest`: links of a vector, the fewest candidates that a search keeps, and searches at a time.
_LINKS = 32
_CANDIDATES = 128
_SEARCHES = 4096


class Cosines:
    """The cosines of n vectors with each other. A vector without length has cosine 0 with everything.

    A float32 dot product of d numbers is off by at most d 2^-24 times the vectors' lengths, whatever the order of
    summation (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Vectors whose cosines are
    within twice that are compared again: float64 sums over exact products, each on its own, so that neither blocks nor
    threads, neither processor nor library has a say.

    Args:
        vectors: (n, d) float32; not copied, not changed.

    Raises:
        DamagedModel: a vector is not finite.
    """

    def __init__(self, vectors: Vectors) -> None:
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if not np.isfinite(lengths).all():
            raise DamagedModel(
                f"the title model's vector {int(np.argmin(np.isfinite(lengths)))} is not finite; "
                "use another with --title-model"
            )
        self._vectors = vectors
        self._lengths = np.maximum(lengths, np.finfo(np.float32).tiny)
        self._unit = vectors / self._lengths.astype(np.float32)[:, np.newaxis]
        # Of products and sums, of the unit vectors' own rounding, and of the comparisons with it.
        self._slack = (vectors.shape[1] + 16) * float(np.finfo(np.float32).eps)
        # Equal vectors have one number.
        seen: dict[bytes, int] = {}
        digests = (hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in vectors)
        self._same = np.fromiter((seen.setdefault(digest, len(seen)) for digest in digests), np.intp, len(vectors))

    def between(self, rows: Numbers, columns: Numbers) -> NDArray[np.float32]:
        """Cosines of some vectors with some: (len(rows), len(columns)) float32, as rounded as a product is."""
        whole = len(columns) == len(self._unit)
        product: NDArray[np.float32] = self._unit[rows] @ (self._unit if whole else self._unit[columns]).T
        return product

    def exactly(self, row: int, columns: Numbers) -> NDArray[np.float64]:
        """Cosines of one vector with some: (len(columns),) float64, equal for equal vectors."""
        sums = np.multiply(self._vectors[columns], self._vectors[row], dtype=np.float64).sum(axis=1)
        cosines: NDArray[np.float64] = np.clip(sums / (self._lengths[columns] * self._lengths[row]), -1, 1)
        return cosines

    def lowest(self, row: int, similar: NDArray[np.float32], columns: Numbers | None = None) -> int | None:
        """The vector least similar to `row`.

        Args:
            row: number of a vector.
            similar: its cosines as `between` gives them; infinity for a vector that is not to be taken.
            columns: the vectors' numbers, ascending; None: all.

        Returns:
            A vector's number, the lowest of several, or None where none is to be taken.
        """
        least = similar.min(initial=np.inf)
        if np.isinf(least):
            return None
        near = self._distinct(_numbers(similar <= least + self._slack, columns))
        return int(near[np.argmin(self.exactly(row, near))])

    def highest(
        self, row: int, similar: NDArray[np.float32], limit: float, columns: Numbers | None = None
    ) -> int | None:
        """The vector most similar to `row` of those with a cosine of at most `limit`; otherwise as `lowest`."""
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
        """Each vector's nearest ones, approximately, itself among them: at most `count` cosines and ascending numbers.

        By faiss's graph of neighbours (Malkov and Yashunin, https://arxiv.org/abs/1603.09320). Equal calls give equal
        answers: the graph's levels have a fixed seed, and vectors join it one after the other. The cosines are as
        rounded as `between` has them.
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
                # -1 where the search met fewer.
                order = order[np.count_nonzero(columns < 0) :]
                yield similar[order], columns[order].astype(np.intp)

    def _distinct(self, numbers: Numbers) -> Numbers:
        """The first of each vector's equals: a thousand equal titles cost no more than one."""
        if len(numbers) == 1:
            return numbers
        return numbers[np.sort(np.unique(self._same[numbers], return_index=True)[1])]


def _numbers(mask: NDArray[np.bool_], columns: Numbers | None) -> Numbers:
    return np.flatnonzero(mask) if columns is None else columns[mask]
