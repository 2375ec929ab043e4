"""Whole runs on many pairs: the memory of each step at two sizes, and what follows for 10^6. See `bench.million`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.million import fill, measured
from bench.reliability_lab import Row
from store.db import open_database

__all__ = ["pairs"]

_LIMITS_GB: dict[str, float | None] = {
    "first snapshot": 2.0,
    "export to shards": 2.0,
    "fill the cache": None,
    "train --train projection": 4.0,
    "train --train cca": 4.0,
    "train --train ridge": 4.0,
    "evaluate": 4.0,
}
"""{step of `bench.million`: the most memory at 10^6 pairs; None if nothing is promised}."""


def pairs(folder: Path, *, quick: bool = False) -> list[Row]:
    """Return the rows of this part of `bench.scale`."""
    sizes = (300, 600) if quick else (5_000, 20_000)
    found = {size: _steps(folder / str(size), size) for size in sizes}
    few, many = (found[size] for size in sizes)
    return [_row(step, limit, few[step], many[step], sizes) for step, limit in _LIMITS_GB.items() if limit is not None]


def _steps(folder: Path, size: int) -> dict[str, dict[str, Any]]:
    folder.mkdir()
    url = f"sqlite:///{folder / 'store.db'}"
    with open_database(url, create=True) as database:
        fill(database, size)
    return {step: measured(step, url, folder) for step in _LIMITS_GB}


def _row(step: str, limit: float, few: dict[str, Any], many: dict[str, Any], sizes: tuple[int, int]) -> Row:
    each = (many["peak_bytes"] - few["peak_bytes"]) / (sizes[1] - sizes[0])
    at_million = (many["peak_bytes"] + each * (10**6 - sizes[1])) / 1e9
    return Row(
        f"{step}: less than {limit:.0f} GB for 10^6 pairs",
        f"{sizes[0]:,} and {sizes[1]:,} made-up pairs on SQLite",
        2,
        f"{many['peak_bytes'] / 1e6:,.0f} MB and {many['cpu_seconds']:.0f} s of a processor for {sizes[1]:,}; "
        f"{each / 1e3:.1f} kB a pair, so {at_million:.1f} GB for 10^6",
        at_million < limit,
    )
