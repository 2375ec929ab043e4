"""Measure OCR of thumbnails, the ways to train projections, and both combined, by grouped cross-validation.

    python -m bench.held_out [--channel DIR ...] [--drawn] [--repeats 3]

Syncs each channel from a stand-in server into a separate store. Its rows of the train and valid splits are divided into
five folds, several times. Models that were fitted without a row's group rank the titles for its thumbnail (`match`) and
the thumbnails for its title (`search`). The test split is never used. The candidates are those of all train and valid
rows; for `in fold`, only the titles of the fold, a fifth as many. Also prints the seconds of each stage.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.channels import REAL_CHANNEL, sync
from store.db import Database, open_database
from thumbtune.demo.channel import drawn_channel
from thumbtune.demo.session import ENCODER
from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.folder import load_folder
from thumbtune.standin.server import StandIn
from trainer.data import Selection, StoredPictures, select_pairs
from trainer.fitting.candidates import Beside, Candidate
from trainer.fitting.fitter import Fitter
from trainer.fitting.learners import Pooled, triplets
from trainer.fitting.threads import one_thread
from trainer.models import TEXT, VISUAL
from trainer.models.reader import ReaderModel, open_model
from trainer.models.reading import RapidReader, read_words
from trainer.progress import Silent
from trainer.quiet import quiet_libraries
from trainer.runs.preparing import encode
from trainer.scoring.cross_validation import candidate_ranks, folds, paired
from trainer.settings import CCA, READER, RECIPE, RIDGE, TrainSettings

BOTH = (VISUAL, TEXT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channel", type=Path, nargs="*", default=[REAL_CHANNEL], help="folders with channels")
    parser.add_argument("--drawn", action="store_true", help="also measure the drawn channel")
    parser.add_argument("--repeats", type=int, default=3, help="number of divisions into folds")
    arguments = parser.parse_args()
    channels: list[tuple[str, Callable[[], Catalogue]]] = [
        (folder.name, partial(load_folder, folder)) for folder in arguments.channel if folder.is_dir()
    ]
    if arguments.drawn:
        channels.append(("drawn", drawn_channel))
    for name, catalogue in channels:
        with tempfile.TemporaryDirectory() as folder, quiet_libraries():
            url = f"sqlite:///{Path(folder) / 'thumbtune.db'}"
            channel = catalogue()
            with StandIn(channel) as server:
                seconds = {"sync": sync(channel, server, url)}
            with open_database(url) as database:
                measure(database, name, arguments.repeats, seconds)


def measure(database: Database, name: str, repeats: int, seconds: dict[str, float]) -> None:
    chosen = select_pairs(database)
    rows = [row for row in chosen.examples if row.split != "test"]
    chosen = replace(chosen, examples=rows)
    groups = [row.group_id for row in rows]
    digests = sorted({row.picture_sha256 for row in rows})
    base = open_model(database, str(ENCODER), "cpu")
    reader = ReaderModel(database, "cpu")

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        found = work()
        seconds[stage] = time.perf_counter() - begun
        return found

    words = timed(
        "read words", lambda: read_words(database, RapidReader(), digests, StoredPictures(database), lambda _n: None)
    )
    settings = TrainSettings(model=str(ENCODER), train=RIDGE)
    seen = timed("encode with the demo encoder", lambda: pooled(database, base, chosen, settings))
    read = timed("embed words and titles", lambda: pooled(database, reader, chosen, replace(settings, model=READER)))
    both = triplets([replace(row, split="train") for row in rows], mined=False)
    of_base, of_reader = seen.triplets(both), read.triplets(both)
    beside = Beside(*read.vectors(reader.facts.heads, rows))
    heads, own = base.facts.heads, reader.facts.heads
    assert heads is not None
    assert own is not None
    recipe = TrainSettings(model=str(ENCODER), **RECIPE)
    steps = TrainSettings(model=str(ENCODER), train="projection")
    fixed, closed = steps.with_recipe_steps(), replace(settings, train=CCA)
    candidates = {
        "demo encoder": Candidate(of_base, heads),
        "demo encoder, the recipe": Candidate(of_base, heads, Fitter(heads, BOTH, recipe, "cpu")),
        "demo encoder, projection": Candidate(of_base, heads, Fitter(heads, BOTH, steps, "cpu")),
        "demo encoder, projection, 2 epochs": Candidate(of_base, heads, Fitter(heads, BOTH, fixed, "cpu")),
        "demo encoder, ridge": Candidate(of_base, heads, Fitter(heads, (TEXT,), settings, "cpu")),
        "demo encoder, CCA": Candidate(of_base, heads, Fitter(heads, BOTH, closed, "cpu")),
        "reader": Candidate(of_reader, own),
        "reader, ridge": Candidate(of_reader, own, Fitter(own, (TEXT,), settings, "cpu")),
        "reader, CCA": Candidate(of_reader, own, Fitter(own, BOTH, closed, "cpu")),
        "demo encoder with reader": Candidate(of_base, heads, None, beside),
        "demo encoder, ridge, with reader": Candidate(of_base, heads, Fitter(heads, (TEXT,), settings, "cpu"), beside),
        "demo encoder, CCA, with reader": Candidate(of_base, heads, Fitter(heads, BOTH, closed, "cpu"), beside),
    }
    none = sum(not text for text in words.values())
    print(
        f"\n## {name}: {len(rows)} train and valid rows, {len(set(groups))} groups, {none} thumbnails without words\n"
    )
    print("| model | match | recall@5 | against the demo encoder | search | recall@5 | in fold | CPU seconds |")
    print("|---|---|---|---|---|---|---|---|")
    first, _, _ = ranks_of(candidates["demo encoder"], groups, repeats)
    for model, candidate in candidates.items():
        begun = time.process_time()
        with one_thread():
            ranks, backwards, inside = ranks_of(candidate, groups, repeats)
        took, change = time.process_time() - begun, paired(first, ranks, groups)
        print(
            f"| {model} | {recall(ranks)} | {(ranks <= 5).mean():.3f} | {change.difference:+.3f} "
            f"({change.low:+.3f} to {change.high:+.3f}) | {recall(backwards)} | {(backwards <= 5).mean():.3f} | "
            f"{np.mean(inside == 1):.3f} | {took:.1f} |",
            flush=True,
        )
    print("\nseconds: " + ", ".join(f"{stage} {took:.1f}" for stage, took in seconds.items()))
    print(f"read {len(digests) / seconds['read words']:.1f} thumbnails a second")


def ranks_of(candidate: Candidate, groups: list[str], repeats: int) -> NDArray[np.int64]:
    """Rank each held-out row: (3, repeats, n) for match, search, and match among the titles of the fold."""
    found = np.zeros((3, repeats, len(groups)), np.int64)
    labels = candidate.rows.labels[candidate.rows.positive].astype(np.intp)
    for repeat in range(repeats):
        for fold in folds(groups, seed=repeat):
            pictures, titles = candidate.vectors(candidate.fitted(groups, fold.fit))
            rows = fold.held_out
            found[0, repeat, rows] = candidate_ranks(pictures[rows], titles, rows, labels)
            found[1, repeat, rows] = candidate_ranks(titles[rows], pictures, rows, labels)
            found[2, repeat, rows] = candidate_ranks(pictures[rows], titles[rows], np.arange(len(rows)), labels[rows])
    return found


def recall(ranks: NDArray[np.int64]) -> str:
    hits = (ranks == 1).mean(axis=1)
    return f"{hits.mean():.3f} ± {hits.std():.3f}"


def pooled(database: Database, model: Any, chosen: Selection, settings: TrainSettings) -> Pooled:
    found = encode(database, model, chosen, settings, Silent())
    assert found is not None
    return found


if __name__ == "__main__":
    main()
