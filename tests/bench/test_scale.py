"""The quick versions of the parts of `bench.scale`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.reliability import run
from bench.reliability_tests import KINDS, ROOT, run_tests
from bench.scale import PARTS, TESTED


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Ray leaves its log files open
@pytest.mark.parametrize("name", [name for name in PARTS if name != "tests"])
def test_each_part_keeps_its_promises_at_small_size(name: str) -> None:
    pytest.importorskip("pgserver")
    rows = run(name, quick=True, parts=PARTS)
    assert rows
    assert [row for row in rows if row.kept is False] == []


def test_the_tests_of_each_promise_exist() -> None:
    """The files exist, so `make test` runs these tests."""
    for files in (*TESTED.values(), *KINDS.values()):
        assert all((ROOT / word).is_file() for word in files if word.endswith(".py"))


@pytest.mark.processes
def test_failed_or_missing_tests_break_a_promise(tmp_path: Path) -> None:
    contents = {"kept": "", "broken": "def test_two(): assert 0", "untested": None}
    files = {name: tmp_path / f"test_{name}.py" for name in contents}
    for name, content in contents.items():
        if content is not None:
            files[name].write_text(f"def test_one(): pass\n{content}\n")
    rows = run_tests({name: (str(file),) for name, file in files.items()}, tmp_path, at_once=2)
    assert [(row.promise, row.times, row.kept) for row in rows] == [
        ("kept", 1, True),
        ("broken", 1, False),
        ("untested", 0, False),
    ]
