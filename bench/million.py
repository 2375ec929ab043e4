"""Select, split, mine, train, evaluate, search and export many pairs: seconds and peak memory of each step.

    python -m bench.million [--pairs 100000] [--postgres] [--only "first snapshot"] [--json]

The tables are filled by bulk inserts: channels of 1,000 videos, distinct titles, synthetic sketches, and thumbnails of
1 kB. Vectors are synthetic: 384 values per title for mining and recall, and 1,024 and 768 values per pair for whole
runs, as for ViT-L/14. Each step is a separate process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import insert

from bench.mining import peak_bytes
from bench.postgres import postgres
from store.db import Database, open_database
from store.tables import Base, Channel, Feature, Picture, Video, VideoVersion
from store.training import load_examples, newest_snapshot
from trainer.data import export_dataset, mine_negatives, normalised, select_pairs, write_snapshot
from trainer.data.cosines import Vectors
from trainer.data.likeness import SKETCHES
from trainer.data.negatives import hard
from trainer.scoring.metrics import measure, rank_rows
from trainer.settings import TrainSettings

WIDTH = 384
BATCH = 10_000
OF_A_CHANNEL = 1000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def fill(database: Database, pairs: int) -> None:
    """Insert `pairs` videos that are pairs, with their sketches."""
    generator = np.random.default_rng(0)
    channels = [
        {
            "id": f"UC{number:022d}",
            "title": f"Channel {number}",
            "uploads_playlist_id": f"UU{number:022d}",
            "min_duration_s": 181,
            "thumbnail_size": "high",
            "added_at": NOW,
        }
        for number in range(-(-pairs // OF_A_CHANNEL))
    ]
    with database.write() as session:
        session.execute(insert(Channel), channels)
    for start in range(0, pairs, BATCH):
        rows = _rows(range(start, min(start + BATCH, pairs)), generator)
        with database.write() as session:
            for table, values in rows.items():
                session.execute(insert(table), values)


def _rows(numbers: range, generator: np.random.Generator) -> dict[type[Base], list[dict[str, Any]]]:
    rows: dict[type[Base], list[dict[str, Any]]] = {Picture: [], Video: [], VideoVersion: [], Feature: []}
    words = generator.integers(0, 5000, (len(numbers), 6))
    for number, chosen in zip(numbers, words, strict=True):
        content = number.to_bytes(8, "big") * 128
        sketch = generator.integers(0, 256, (2, 2, 3), dtype=np.uint8).repeat(9, 0).repeat(16, 1).tobytes()
        digest, video = hashlib.sha256(content).hexdigest(), f"v{number:010d}"
        title = f"{' '.join(f'word{word}' for word in chosen)} number {number} of all"
        seen = {"first_seen_at": NOW, "last_seen_at": NOW}
        rows[Picture].append(
            {
                "sha256": digest,
                "bytes": content,
                "mime": "image/jpeg",
                "width": 480,
                "height": 360,
                "byte_count": len(content),
                "fetched_at": NOW,
            }
        )
        rows[Video].append(
            {
                "id": video,
                "channel_id": f"UC{number // OF_A_CHANNEL:022d}",
                "title": title,
                "picture_sha256": digest,
                "published_at": NOW - timedelta(minutes=number),
                "duration_s": 600,
                "kind": "video",
                "availability": "available",
                "picture_checked_at": NOW,
                **seen,
            }
        )
        rows[VideoVersion].append({"video_id": video, "number": 1, "title": title, "picture_sha256": digest, **seen})
        rows[Feature].append(
            {
                "fingerprint": SKETCHES,
                "tower": "vision",
                "digest": digest,
                "vector": sketch,
                "checksum": zlib.crc32(sketch),
            }
        )
    return rows


def vectors(n: int, seed: int = 0) -> Vectors:
    """Return synthetic vectors of length 1 around sqrt(n) themes: (n, 384) float32."""
    generator = np.random.default_rng(seed)
    themes = generator.standard_normal((max(1, int(n**0.5)), WIDTH), dtype=np.float32)
    found = generator.standard_normal((n, WIDTH), dtype=np.float32)
    found += themes[generator.integers(len(themes), size=n)]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def snapshot(url: str, _folder: Path) -> str:
    """Group, split and select all pairs, choose random negatives, and write a snapshot."""
    settings = TrainSettings(negatives="random")
    with open_database(url) as database:
        selection = select_pairs(database)
        rows = mine_negatives(selection, settings, lambda titles: vectors(len(titles)))
        number, is_new = write_snapshot(database, selection, rows, settings, None)
    return f"snapshot {number} ({'new' if is_new else 'known'}), {selection.counts()}"


def mining(url: str, _folder: Path) -> str:
    """Choose hard negatives of the training split by a faiss index."""
    with open_database(url) as database, database.read() as session:
        number = newest_snapshot(session)
        assert number is not None
        groups = [row.group_id for row in load_examples(session, number) if row.split == "train"]
    chosen = hard(vectors(len(groups)), groups, 0.9)
    return f"{len(chosen):,} titles, {sum(pick is None for pick in chosen)} without a negative"


def recall(url: str, _folder: Path) -> str:
    """Rank the titles of the test split for each of its thumbnails, and compute the metrics."""
    with open_database(url) as database, database.read() as session:
        number = newest_snapshot(session)
        assert number is not None
        titles = [normalised(row.title) for row in load_examples(session, number) if row.split == "test"]
    pictures = vectors(len(titles))
    texts = pictures + 0.08 * vectors(len(titles), 1)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    found = measure(rank_rows(pictures, texts, [titles]).rank)[0]
    return f"{len(titles):,} rows, one direction, {found.name} {found.value:.3f}"


def export(url: str, folder: Path) -> str:
    """Write the newest snapshot as 16 WebDataset shards per split."""
    with open_database(url) as database:
        with database.read() as session:
            number = newest_snapshot(session)
        done = export_dataset(database, folder / "export", snapshot_id=number, form="webdataset", shards=16)
    return f"{sum(done.examples.values()):,} rows"


def _whole(step: str) -> Callable[[str, Path], str]:
    def run(url: str, folder: Path) -> str:
        # Imported only here, so that the memory of other steps is without the training libraries.
        from bench import million_runs  # noqa: PLC0415

        return million_runs.STEPS[step](url, folder)

    return run


_WHOLE_RUNS = (
    "fill the cache",
    "train --train projection",
    "train --train cca",
    "train --train ridge",
    "evaluate",
    "search",
)
STEPS: dict[str, Callable[[str, Path], str]] = {
    "first snapshot": snapshot,
    "same snapshot again": snapshot,
    "export to shards": export,
    "hard negatives": mining,
    "recall": recall,
    **{step: _whole(step) for step in _WHOLE_RUNS},
}


def one(step: str, url: str, folder: Path) -> dict[str, Any]:
    """Run a step in this process; return its seconds, processor seconds and peak memory, including libraries."""
    start, cpu = time.perf_counter(), time.process_time()
    told = STEPS[step](url, folder)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    return {
        "step": step,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak_bytes(),
        "result": told,
    }


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--postgres", action="store_true", help="measure on PostgreSQL instead of SQLite")
    parser.add_argument("--only", action="append", choices=STEPS, help="do only this step (can be repeated)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one[0], given.one[1], Path(given.one[2]))))
        return
    with tempfile.TemporaryDirectory(prefix="thumbtune-million-") as name:
        folder = Path(name)
        with postgres() if given.postgres else nullcontext(f"sqlite:///{folder / 'store.db'}") as url:
            start = time.perf_counter()
            with open_database(url, create=True) as database:
                fill(database, given.pairs)
            filled = time.perf_counter() - start
            print(f"{given.pairs:,} pairs inserted in {filled:.0f} s", file=sys.stderr, flush=True)
            found = [measured(step, url, folder) for step in given.only or STEPS]
    if given.json:
        print(json.dumps({"pairs": given.pairs, "steps": found}, indent=2))
        return
    print(f"| {given.pairs:,} pairs | seconds | of a processor | peak memory, MB | result |\n|---|---|---|---|---|")
    for row in found:
        times = f"{row['seconds']:.1f} | {row['cpu_seconds']:.1f}"
        print(f"| {row['step']} | {times} | {row['peak_bytes'] / 1e6:,.0f} | {row['result']} |")


def measured(step: str, url: str, folder: Path) -> dict[str, Any]:
    """Run a step in a separate process; return the result of `one`."""
    command = [sys.executable, "-m", "bench.million", "--one", step, url, str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=os.environ)
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"    {step}: {found['seconds']:.1f} s, {found['peak_bytes'] / 1e6:,.0f} MB", file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
