"""The share of a machine that each worker of a cluster takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.cluster.resources import largest_share, without_largest


@pytest.mark.parametrize(
    ("machines", "workers", "share"),
    [
        ([8], 4, 1.0),
        ([1], 3, 0.33),
        ([1, 1], 3, 0.5),
        ([3, 1], 5, 0.75),
        ([2, 2], 3, 1.0),
        ([0, 2], 4, 0.5),
        ([0.5], 1, 0.5),
        ([1], 200, 0.0),
        ([], 1, 0.0),
    ],
)
def test_each_worker_fits_on_one_machine(machines: list[float], workers: int, share: float) -> None:
    assert largest_share(machines, workers) == share


@given(st.lists(st.integers(0, 16), min_size=1, max_size=6), st.integers(1, 20))
def test_no_larger_share_fits(machines: list[int], workers: int) -> None:
    share = largest_share(machines, workers)
    fitting = [
        hundredths for hundredths in range(1, 101) if sum(100 * has // hundredths for has in machines) >= workers
    ]
    assert round(100 * share) == max(fitting, default=0)


@pytest.mark.parametrize(("machines", "left"), [([2], [2]), ([4, 2, 4], [2, 4]), ([0, 2], [2]), ([0], [])])
def test_the_largest_machine_may_be_lost(machines: list[float], left: list[float]) -> None:
    assert without_largest(machines) == left
