"""Which model comes into use, for given figures."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.runs.promotion import FEWEST, decide, decide_all_known, decide_unmeasured
from trainer.scoring import Paired, paired


def compared(old_hits: int, new_hits: int, n: int = 8) -> Paired:
    old = np.array([1 if row < old_hits else 2 for row in range(n)])
    new = np.array([1 if row >= n - new_hits else 3 for row in range(n)])
    return paired(old, new, [f"g{row}" for row in range(n)])


@pytest.mark.parametrize(
    ("old_hits", "new_hits", "promoted"), [(3, 4, True), (4, 4, False), (4, 3, False), (0, 0, False), (24, 0, False)]
)
@pytest.mark.parametrize("in_use", [None, 3])
def test_only_a_better_model_replaces_the_one_in_use(
    in_use: int | None, old_hits: int, new_hits: int, promoted: bool
) -> None:
    assert decide(in_use, "valid", compared(old_hits, new_hits, n=24)).promote is promoted


@pytest.mark.parametrize(("n", "promoted"), [(FEWEST - 1, False), (FEWEST, True)])
def test_too_few_held_out_pairs_keep_the_model_in_use(n: int, promoted: bool) -> None:
    decision = decide(3, "valid", compared(0, n, n=n))
    assert decision.promote is promoted
    assert ("too few" in decision.reason) is not promoted


def test_the_reason_has_both_figures_the_difference_its_interval_and_n() -> None:
    found = compared(3, 4)
    reason = decide(12, "cross-validated", found).reason
    for part in ("cross-validated", "0.500", "run 12", "0.375", "8 pairs", "+0.125", f"{found.low:+.3f}"):
        assert part in reason
    assert "base model" in decide(None, "valid", found).reason


def test_the_reason_states_the_rows_known_to_the_champion() -> None:
    decision = decide(3, "valid", compared(0, 1, n=1), known=4)
    assert "1 pair (4 more left out" in decision.reason
    unknown = decide_all_known(3, 4)
    assert not unknown.promote
    assert "every valid pair (4)" in unknown.reason


@pytest.mark.parametrize(
    ("in_use", "new", "why", "part"),
    [
        (3, None, None, "valid split is empty"),
        (None, None, None, "the base model"),
        (3, None, "its file is gone", "valid split is empty"),
        (3, 0.5, "its file is gone", "its file is gone"),
        (3, 0.5, None, "retrain --force"),
    ],
)
def test_without_two_figures_the_model_in_use_stays(
    in_use: int | None, new: float | None, why: str | None, part: str
) -> None:
    decision = decide_unmeasured(in_use, new, why)
    assert not decision.promote
    assert part in decision.reason
