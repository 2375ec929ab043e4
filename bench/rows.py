"""Channels, their train and valid rows with cached vectors, and the ranks of held-out rows: shared by several scripts.

The test split is never used: `train_and_valid` leaves it out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.channels import REAL_CHANNEL, sync
from store.db import Database, open_database
from thumbtune.demo.channel import drawn_channel
from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.folder import load_folder
from thumbtune.standin.server import StandIn
from trainer.data import Selection, select_pairs
from trainer.fitting.candidates import Fitted
from trainer.fitting.learners import Pooled, triplets
from trainer.fitting.projections import PooledTriplets
from trainer.progress import Silent
from trainer.quiet import quiet_libraries
from trainer.runs.preparing import encode
from trainer.scoring.cross_validation import candidate_ranks, folds, paired
from trainer.settings import TrainSettings

__all__ = [
    "Refitted",
    "Stages",
    "add_channel_options",
    "catalogues",
    "interval",
    "pooled",
    "ranks_of",
    "recall",
    "synced",
    "train_and_valid",
    "triplets_of",
]

Vectors = NDArray[np.float32]
Ranks = NDArray[np.int64]


class Refitted(Protocol):
    """A model that can be fitted on folds: `trainer.fitting.Candidate`, or a variant of a script."""

    @property
    def rows(self) -> PooledTriplets:
        """All rows."""

    def fitted(self, groups: Sequence[str], fit: NDArray[np.intp]) -> Fitted:
        """Fit on some rows."""

    def vectors(self, fitted: Fitted) -> tuple[Vectors, Vectors]:
        """Embed the thumbnails and titles of all rows: two arrays, (n, d) float32."""


class Stages(dict[str, tuple[float, float]]):
    """{stage: (seconds, processor seconds of this process)}, in order."""

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        """Run a stage, and return its result."""
        begun, spent = time.perf_counter(), time.process_time()
        found = work()
        self[stage] = time.perf_counter() - begun, time.process_time() - spent
        return found

    def __str__(self) -> str:
        return ", ".join(f"{stage} {wall:.1f} s (processor {spent:.1f} s)" for stage, (wall, spent) in self.items())


def add_channel_options(parser: argparse.ArgumentParser) -> None:
    """Add `--channel` and `--drawn`."""
    parser.add_argument("--channel", type=Path, nargs="*", default=[REAL_CHANNEL], help="folders with channels")
    parser.add_argument("--drawn", action="store_true", help="also measure the drawn channel")


def catalogues(arguments: argparse.Namespace) -> dict[str, Callable[[], Catalogue]]:
    """Return {name: function that returns the channel} for the options of `add_channel_options`.

    Raises:
        SystemExit: there is no channel to measure.
    """
    found: dict[str, Callable[[], Catalogue]] = {
        folder.resolve().name: partial(load_folder, folder) for folder in arguments.channel if folder.is_dir()
    }
    if arguments.drawn:
        found["drawn"] = drawn_channel
    if not found:
        raise SystemExit(f"{', '.join(map(str, arguments.channel))} is not a folder; name one with --channel")
    return found


@contextmanager
def synced(catalogue: Catalogue, stages: Stages | None = None) -> Iterator[Database]:
    """Sync a channel from a stand-in server into a store of its own, and open the store."""
    stages = Stages() if stages is None else stages
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        url = f"sqlite:///{Path(folder) / 'thumbtune.db'}"
        with StandIn(catalogue) as server:
            stages.timed("sync", lambda: sync(catalogue, server, url))
        with open_database(url) as database:
            yield database


def train_and_valid(database: Database) -> Selection:
    """Return the pairs of the store without those of the test split."""
    chosen = select_pairs(database)
    return replace(chosen, examples=[row for row in chosen.examples if row.split != "test"])


def pooled(database: Database, model: Any, chosen: Selection, settings: TrainSettings) -> Pooled:
    """Encode the pairs with a model's frozen part."""
    return encode(database, model, chosen, settings, Silent())


def triplets_of(vectors: Pooled, chosen: Selection) -> PooledTriplets:
    """Return all these pairs as rows to fit on, without negatives."""
    return vectors.triplets(triplets([replace(row, split="train") for row in chosen.examples], mined=False))


def ranks_of(model: Refitted, groups: Sequence[str], repeats: int) -> Ranks:
    """Rank each held-out row: (4, repeats, n) for match and search among all rows, and among the rows of the fold."""
    found = np.zeros((4, repeats, len(groups)), np.int64)
    labels = model.rows.labels[model.rows.positive].astype(np.intp)
    for repeat in range(repeats):
        for fold in folds(groups, seed=repeat):
            pictures, titles = model.vectors(model.fitted(groups, fold.fit))
            rows, own = fold.held_out, np.arange(len(fold.held_out))
            found[0, repeat, rows] = candidate_ranks(pictures[rows], titles, rows, labels)
            found[1, repeat, rows] = candidate_ranks(titles[rows], pictures, rows, labels)
            found[2, repeat, rows] = candidate_ranks(pictures[rows], titles[rows], own, labels[rows])
            found[3, repeat, rows] = candidate_ranks(titles[rows], pictures[rows], own, labels[rows])
    return found


def recall(ranks: Ranks) -> str:
    """Recall@1 of (repeats, n) ranks: the mean and the standard deviation over the repeats."""
    hits = (ranks == 1).mean(axis=1)
    return f"{hits.mean():.3f} ± {hits.std():.3f}"


def interval(ranks: Ranks, groups: Sequence[str]) -> str:
    """The 95 % interval of the recall@1 of (repeats, n) ranks, by bootstrap over groups of rows."""
    found = paired(np.full_like(ranks, 2), ranks, groups)
    return f"{found.low:.3f} to {found.high:.3f}"
