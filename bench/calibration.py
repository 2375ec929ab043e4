"""Measure the probabilities of `match`: the expected calibration error, and how often the first title is right.

    python -m bench.calibration [--channel DIR ...] [--drawn]

Trains the demo encoder with the default settings on all but the newest tenth of each channel, with the reader on
channels of folders. The calibration is fitted as for `match`, on held-out folds of the train and valid rows. Then the
channel publishes the newest tenth, and all their titles are ranked for each of their thumbnails.
"""

from __future__ import annotations

import argparse
import tempfile

from bench.channels import sync
from bench.rows import add_channel_options, catalogues
from store.db import Database, open_database
from store.training import current_pairs
from thumbtune.answers.modelled import Answerer
from thumbtune.demo.session import ENCODER, hold_back
from thumbtune.standin.catalogue import Catalogue
from thumbtune.standin.server import StandIn
from trainer.library import open_picture
from trainer.quiet import quiet_libraries
from trainer.runs import train
from trainer.settings import TrainSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_channel_options(parser)
    arguments = parser.parse_args()
    print("| channel | thumbnails | calibration error | new videos | first and told apart | first, not told apart |")
    print("|---|---|---|---|---|---|")
    for name, catalogue in catalogues(arguments).items():
        with tempfile.TemporaryDirectory() as folder, quiet_libraries():
            cells = measure(catalogue(), f"sqlite:///{folder}/thumbtune.db", with_reader=name != "drawn")
            print(f"| {name} | {cells} |", flush=True)


def measure(catalogue: Catalogue, url: str, *, with_reader: bool) -> str:
    """Train, and match the newest videos; return the cells of the table."""
    newest = hold_back(catalogue)
    with StandIn(catalogue) as server:
        sync(catalogue, server, url)
        with open_database(url) as database:
            run = train(database, TrainSettings(model=str(ENCODER), with_reader=with_reader, device="cpu"))
            catalogue.publish(*newest)
            sync(catalogue, server, url)
            return matched(database, run.run_id, {video.id for video in newest})


def matched(database: Database, run_id: int, newest: set[str]) -> str:
    """Match the newest videos' titles with their thumbnails, by a run's model."""
    with database.read() as session:
        pairs = [pair for pair in current_pairs(session) if pair.video_id in newest]
    pictures = [open_picture(database, pair.video_id) for pair in pairs]
    found = Answerer(database, str(run_id), "cpu").match(pictures, [pair.title for pair in pairs])
    right: dict[bool, list[bool]] = {True: [], False: []}
    for pair, thumbnail in zip(pairs, found.thumbnails, strict=True):
        right[(1, 2) not in thumbnail.near_ties()].append(thumbnail.ideas[0].title == pair.title)
    shares = [f"{sum(hits)} of {len(hits)} right" for hits in (right[True], right[False])]
    assert found.calibration is not None, found.uncalibrated
    return f"{found.calibration.n} | {found.calibration.error:.3f} | {len(pairs)} | {shares[0]} | {shares[1]}"


if __name__ == "__main__":
    main()
