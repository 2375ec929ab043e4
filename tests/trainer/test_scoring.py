"""Scoring refuses what can't be compared."""

from __future__ import annotations

import numpy as np
import pytest

from store.snapshots import ExampleRow
from trainer.errors import TrainerError
from trainer.scoring import score_vectors

ROWS = [ExampleRow(n, f"v{n}", "UC1", n, f"g{n}", "test", f"title {n}", f"{n:064d}", None) for n in range(3)]
UNIT = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize("damaged", ["pictures", "titles"])
def test_embeddings_that_are_not_finite_are_no_hits(damaged: str) -> None:
    broken = UNIT.copy()
    broken[1, 1] = np.nan
    assert score_vectors(ROWS, UNIT, UNIT).table()["test"]["recall@1"] == 1.0
    with pytest.raises(TrainerError, match=r"embeddings are not finite; train with a smaller --lr"):
        score_vectors(ROWS, *((broken, UNIT) if damaged == "pictures" else (UNIT, broken)))
