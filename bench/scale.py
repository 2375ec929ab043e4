"""Test what thumbtune promises for many machines and many pairs, on a small scale, on one machine.

    python -m bench.scale [--quick] [--only encode] [--json]

Prints one table, as `bench.reliability` does. The exit code is 1 if a promise is broken.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.reliability import main
from bench.reliability_lab import Row
from bench.reliability_tests import run_tests

__all__ = ["PARTS", "TESTED", "tested"]

PARTS = {
    "encode": "scale_encoding:encode",
    "collect": "many_collectors:collect",
    "pairs": "scale_pairs:pairs",
    "tests": "scale:tested",
}
"""The parts for `--only`: functions that take a folder and `quick=`, and return rows."""

TESTED: dict[str, tuple[str, ...]] = {
    "two processes train what one does; a killed one ends the run": ("tests/trainer/test_on_processes.py",),
    "a cluster that can't be used is one line": ("tests/trainer/test_cluster.py", "-k", "not test_a_cluster"),
    "thumbnails move to a folder or bucket and back; faults lose none": (
        "tests/store/test_places.py",
        "tests/collector/test_pictures_outside.py",
    ),
    "a store is copied to PostgreSQL and back, and compared": ("tests/store/test_copying.py",),
    "shards are read by webdataset and datasets": ("tests/trainer/test_export_shards.py",),
    "vectors in files, and scores in parts, are equal to those in memory": (
        "tests/trainer/test_vector_files.py",
        "tests/trainer/test_scoring.py",
    ),
    "negatives within channels; what would take hours is refused": ("tests/trainer/test_mining.py",),
    "each owner's channels are synced with the owner's key": ("tests/collector/test_owners.py",),
}
"""Promises, and the files of their tests."""


def tested(folder: Path, *, quick: bool) -> list[Row]:
    """Run the tests of each promise; with `quick`, of one promise, because `make test` runs all tests."""
    # Two at a time, because many of these tests wait for processes that they start.
    return run_tests(dict(list(TESTED.items())[-1:] if quick else TESTED), folder, at_once=2)


if __name__ == "__main__":
    sys.exit(main(PARTS, __doc__))
