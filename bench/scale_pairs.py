"""Whole runs on many pairs: memory and time of each step of `bench.million`, with fewer pairs."""

from __future__ import annotations

from pathlib import Path

from bench.million import fill, measured
from bench.reliability_lab import Row
from store.db import open_database

__all__ = ["pairs"]

_QUICK = ("fill the cache", "train --train ridge")
_STEPS = ("first snapshot", *_QUICK, "train --train cca", "train --train projection", "evaluate", "export to shards")


def pairs(folder: Path, *, quick: bool = False) -> list[Row]:
    """Return the rows of this part of `bench.scale`."""
    # More than the number of rows from which splits are embedded one after the other.
    size = 300 if quick else 20_000
    url = f"sqlite:///{folder / 'store.db'}"
    with open_database(url, create=True) as database:
        fill(database, size)
    return [_row(step, url, folder, size) for step in (_QUICK if quick else _STEPS)]


def _row(step: str, url: str, folder: Path, size: int) -> Row:
    found = measured(step, url, folder)
    told = f"{found['peak_bytes'] / 1e6:,.0f} MB with libraries, {found['cpu_seconds']:.0f} s of a processor"
    return Row(f"memory and time: {step}", f"{size:,} synthetic pairs on SQLite", 1, f"{told}; {found['result']}", None)
