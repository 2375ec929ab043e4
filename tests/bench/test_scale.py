"""The quick versions of the parts of `bench.scale`."""

from __future__ import annotations

import pytest

from bench.reliability import run
from bench.scale import PARTS


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Ray leaves its log files open
@pytest.mark.parametrize("name", PARTS)
def test_each_part_keeps_its_promises_at_small_size(name: str) -> None:
    pytest.importorskip("pgserver")
    rows = run(name, quick=True, parts=PARTS)
    assert rows
    assert [row for row in rows if row.kept is False] == []
