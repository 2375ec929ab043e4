"""Measure OCR of thumbnails, the ways to train projections, and both combined, by grouped cross-validation.

    python -m bench.held_out [--channel DIR ...] [--drawn] [--repeats 3] [--without-words]

Syncs each channel from a stand-in server into a separate store. Its rows of the train and valid splits are divided into
five folds, several times. Models that were fitted without a row's group rank the titles for its thumbnail (`match`) and
the thumbnails for its title (`search`); the figures are recall@1. The test split is never used. The candidates are
those of all train and valid rows or, in the columns `in fold`, only the fold's rows, a fifth as many, none of which a
model was fitted on. The interval is computed by bootstrap over groups; the standard deviation is that over the
divisions. Also prints the seconds of each stage.

With `--without-words`, the text on the thumbnails of folders is blurred first. This is a substitute for a channel
without text on its thumbnails.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial

from bench.rows import (
    Stages,
    add_channel_options,
    catalogues,
    interval,
    pooled,
    ranks_of,
    recall,
    synced,
    train_and_valid,
    triplets_of,
)
from bench.wordless import without_words
from store.db import Database
from thumbtune.demo.session import ENCODER
from trainer.data import Selection, StoredPictures
from trainer.fitting.candidates import Candidate
from trainer.fitting.fitter import Fitter
from trainer.fitting.threads import one_thread
from trainer.models import TEXT, VISUAL
from trainer.models.reader import ReaderModel, open_model
from trainer.models.reading import RapidReader, read_words
from trainer.scoring.cross_validation import paired
from trainer.settings import CCA, READER, RECIPE, RIDGE, TrainSettings

BOTH = (VISUAL, TEXT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_channel_options(parser)
    parser.add_argument("--repeats", type=int, default=3, help="number of divisions into folds")
    parser.add_argument(
        "--without-words", action="store_true", help="blur the text on the thumbnails of the channels of folders"
    )
    arguments = parser.parse_args()
    for name, catalogue in catalogues(arguments).items():
        channel, stages = catalogue(), Stages()
        blurred = arguments.without_words and name != "drawn"
        if blurred:
            stages.timed("blur text", partial(without_words, channel))
        with synced(channel, stages) as database:
            measure(database, f"{name}, text blurred" if blurred else name, arguments.repeats, stages)


def measure(database: Database, name: str, repeats: int, stages: Stages) -> None:
    chosen = train_and_valid(database)
    groups = [row.group_id for row in chosen.examples]
    digests = sorted({row.picture_sha256 for row in chosen.examples})
    source = StoredPictures(database)
    words = stages.timed("read words", lambda: read_words(database, RapidReader(), digests, source, lambda _n: None))
    candidates = candidates_of(database, chosen, stages)
    none = sum(not text for text in words.values())
    print(f"\n## {name}: {len(groups)} rows, {len(set(groups))} groups, {none} thumbnails without words\n")
    print(
        "| model | match | 95 % interval | recall@5 | against the demo encoder | search | recall@5 | in fold: match "
        "| in fold: search | processor seconds |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    first, *_ = ranks_of(candidates["demo encoder"], groups, repeats)
    for model, candidate in candidates.items():
        begun = time.process_time()
        with one_thread():
            ranks, backwards, *inside = ranks_of(candidate, groups, repeats)
        took, change, alone = time.process_time() - begun, paired(first, ranks, groups), interval(ranks, groups)
        print(
            f"| {model} | {recall(ranks)} | {alone} | {(ranks <= 5).mean():.3f} | {change.difference:+.3f} "
            f"({change.low:+.3f} to {change.high:+.3f}) | {recall(backwards)} | {(backwards <= 5).mean():.3f} | "
            f"{recall(inside[0])} | {recall(inside[1])} | {took:.1f} |",
            flush=True,
        )
    print(f"\n{stages}; {len(digests)} thumbnails")


def candidates_of(database: Database, chosen: Selection, stages: Stages) -> dict[str, Candidate]:
    """Encode the rows with the demo encoder and the reader; return the models to compare."""
    base, reader = open_model(database, str(ENCODER), "cpu"), ReaderModel(database, "cpu")
    settings = TrainSettings(model=str(ENCODER), train=RIDGE)
    seen = stages.timed("encode with the demo encoder", lambda: pooled(database, base, chosen, settings))
    of_words = replace(settings, model=READER)
    read = stages.timed("embed words and titles", lambda: pooled(database, reader, chosen, of_words))
    of_base, of_reader = triplets_of(seen, chosen), triplets_of(read, chosen)
    projections, own = base.facts.projections, reader.facts.projections
    recipe = TrainSettings(model=str(ENCODER), **RECIPE)
    steps = TrainSettings(model=str(ENCODER), train="projection")
    fixed, closed = steps.with_recipe_steps(), replace(settings, train=CCA)
    untrained = Candidate(of_reader, own)
    beside = replace(untrained, fitter=Fitter(own, BOTH, closed, "cpu", fixed=reader.fixed))
    return {
        "demo encoder": Candidate(of_base, projections),
        "demo encoder, the recipe": Candidate(of_base, projections, Fitter(projections, BOTH, recipe, "cpu")),
        "demo encoder, projection": Candidate(of_base, projections, Fitter(projections, BOTH, steps, "cpu")),
        "demo encoder, projection, 2 epochs": Candidate(of_base, projections, Fitter(projections, BOTH, fixed, "cpu")),
        "demo encoder, ridge": Candidate(of_base, projections, Fitter(projections, (TEXT,), settings, "cpu")),
        "demo encoder, CCA": Candidate(of_base, projections, Fitter(projections, BOTH, closed, "cpu")),
        "reader": Candidate(of_reader, own),
        "reader, ridge": Candidate(of_reader, own, Fitter(own, (TEXT,), settings, "cpu", fixed=reader.fixed)),
        "reader, CCA": beside,
        "demo encoder with reader": Candidate(of_base, projections, None, beside),
        "demo encoder, ridge, with reader": Candidate(
            of_base, projections, Fitter(projections, (TEXT,), settings, "cpu"), beside
        ),
        "demo encoder, CCA, with reader": Candidate(
            of_base, projections, Fitter(projections, BOTH, closed, "cpu"), beside
        ),
        "demo encoder, CCA, with untrained reader": Candidate(
            of_base, projections, Fitter(projections, BOTH, closed, "cpu"), untrained
        ),
    }


if __name__ == "__main__":
    main()
