"""Vectors in a file, for more of them than fit in memory."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["VectorFile"]

Vectors = NDArray[np.float32]

_MAPPED_BYTES = 64 << 20


class VectorFile:
    """An (n, width) float32 array in a file. Rows are indexed like those of an array: `vectors[numbers]`.

    The file is unlinked, so the system deletes it when the process ends in any way. Only a part of it is mapped at a
    time, because mapped pages count as memory of the process.

    Args:
        folder: the folder of the file; not a folder in memory.
        n: the number of vectors.
        width: the length of each vector.
        budget: the most bytes of vectors in memory at a time, which readers of many rows must respect.
    """

    def __init__(self, folder: Path, n: int, width: int, budget: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.shape = (n, width)
        self.budget = budget
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (see the next line)
        weakref.finalize(self, self._file.close)
        self._row_bytes = 4 * width
        self._file.truncate(n * self._row_bytes)

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, row: int, vectors: Vectors) -> None:
        """Write consecutive rows.

        Args:
            row: the number of the first row.
            vectors: (m, width).

        Raises:
            OSError: the disk is full.
        """
        rest, offset = np.ascontiguousarray(vectors, np.float32).data.cast("B"), row * self._row_bytes
        while rest:  # a write that fills the disk is short, and only the next one fails
            written = os.pwrite(self._file.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written

    def __getitem__(self, rows: NDArray[np.intp]) -> Vectors:
        """Return rows by their numbers, (k, width). They are read in the file's order."""
        n, width = self.shape
        order = np.argsort(rows, kind="stable")
        wanted = rows[order]
        found = np.empty((len(rows), width), np.float32)
        at_once = max(1, _MAPPED_BYTES // self._row_bytes)
        for start in range(0, n, at_once):
            low, high = np.searchsorted(wanted, (start, start + at_once))
            if low < high:
                shape = (min(at_once, n - start), width)
                part = np.memmap(self._file, np.float32, "r", start * self._row_bytes, shape)
                found[order[low:high]] = part[wanted[low:high] - start]
        return found
