"""The memory and the event loop lag of a large channel's first sync."""

from __future__ import annotations

import os
from pathlib import Path

from bench.child import Measured, measure
from bench.memory import large_channel
from bench.reliability_lab import Row, sqlite_url
from bench.reliability_served import served

__all__ = ["large"]

MOST_MB = 150
MOST_GROWTH = 1.15
MOST_LAG_MS = 50


def large(folder: Path, *, quick: bool) -> list[Row]:
    """Sync a channel and a channel ten times as large, with distinct thumbnails."""
    sizes = (50, 500) if quick else (2_000, 20_000)
    small, big = (_synced(folder, videos) for videos in sizes)
    growth = big.peak_rss_mb / small.peak_rss_mb
    fetched = [one.report["pictures"] for one in (small, big) if one.report["status"] == "complete"]
    done = f"first syncs of {sizes[1]:,} and {sizes[0]:,} videos with thumbnails"
    rate = big.report["pictures"] / big.report["seconds"]
    return [
        Row(
            f"a sync's memory stays under {MOST_MB} MB and within {MOST_GROWTH - 1:.0%} of a small channel's",
            done,
            1,
            f"{big.peak_rss_mb:.0f} MB and {small.peak_rss_mb:.0f} MB: {growth:.2f} times ({rate:.0f} thumbnails/s)",
            fetched == list(sizes) and big.peak_rss_mb < MOST_MB and growth <= MOST_GROWTH,
        ),
        Row(
            f"the event loop's lag stays under {MOST_LAG_MS} ms at the 99th percentile",
            f"{done}; measured every 10 ms",
            1,
            f"{big.report['lag_p99_ms']:.0f} ms ({small.report['lag_p99_ms']:.0f} ms); "
            f"at most {big.report['lag_max_ms']:.0f} ms",
            big.report["lag_p99_ms"] < MOST_LAG_MS,
        ),
    ]


def _synced(folder: Path, videos: int) -> Measured:
    with served(large_channel, videos) as environment:
        store = sqlite_url(folder, f"of-{videos}")
        return measure("reliability_sync", {**os.environ, **environment}, store=store, handle="@large")
