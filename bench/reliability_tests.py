"""The guarantees about hostile input: each row is a run of their tests in a separate process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.reliability_lab import Row

__all__ = ["KINDS", "hostile", "run_tests"]

ROOT = Path(__file__).parent.parent
KINDS: dict[str, tuple[str, ...]] = {
    "an error text of any length or content is one short line": ("tests/hostile/test_api.py",),
    "a slow body delays nothing else": ("tests/hostile/test_slow_bodies.py",),
    "a picture full of metadata is rejected by its header": (
        "tests/hostile/test_crowded_pictures.py",
        "tests/hostile/test_memory.py",
    ),
    "what a sync accepts can be read; no other format is opened": ("tests/trainer/test_large_pictures.py",),
    "a model of the hub is checked as a folder is, and its pickles stay there": ("tests/hostile/test_model_files.py",),
    "a wrong value in a model's folder is one error, before it costs much": ("tests/hostile/test_model_settings.py",),
    "passwords in URLs are in no message; options of a URL are in force": ("tests/store/test_urls.py",),
    "a stranger's name leads to no special address": ("tests/collector/test_addresses.py",),
    "no input breaks a parser": ("tests/hostile/test_fuzzing.py",),
    "the key is only in its header": ("tests/hostile/test_key.py", "tests/hostile/test_headers.py"),
    "no title controls a terminal": ("tests/hostile/test_titles.py",),
}
"""The guarantees, and the files of their tests."""
QUICK = 3


def hostile(folder: Path, *, quick: bool) -> list[Row]:
    """Run the tests of each kind; with `quick`, of the first kinds only."""
    # One at a time, because some tests have time limits.
    return run_tests(dict(list(KINDS.items())[: QUICK if quick else None]), folder, at_once=1)


def run_tests(kinds: Mapping[str, Sequence[str]], folder: Path, *, at_once: int) -> list[Row]:
    """Run tests in a process for each promise; return a row for each.

    Args:
        kinds: {promise: the files of its tests}.
        folder: a folder for the tests' files.
        at_once: number of processes at a time.
    """

    def run(number: int, promise: str, files: Sequence[str]) -> Row:
        basetemp = folder / f"tests-{number}"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={basetemp}", *files],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        last = (done.stdout.strip().splitlines() or [""])[-1]
        passed = re.search(r"(\d+) passed", last)
        return Row(
            promise, f"the tests in {', '.join(files)}", int(passed[1]) if passed else 0, last, not done.returncode
        )

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run, range(len(kinds)), kinds.keys(), kinds.values()))
