"""Read the words on a channel's thumbnails in different frames: recall@1 of the title, and seconds per thumbnail.

    python -m bench.ocr [--channel DIR ...] [--repeats 1] [--only WORD]

The reader sees whole thumbnails. The other frames are the input of a CLIP model of 224 pixels: the centre crop, and the
squashed thumbnail. Nothing is trained: each thumbnail of the train and valid splits is ranked among the titles of both
splits. Each thumbnail is read `--repeats` times from each frame, in one process and one thread; the fastest is printed.
Processor seconds are less affected by other work on the machine than wall-clock seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bench.rows import add_channel_options, catalogues, interval, pooled, synced, train_and_valid, triplets_of
from store.db import Database
from store.training import write_words
from store.types import utc_now
from trainer.data import Selection, StoredPictures, framed
from trainer.fitting.candidates import Candidate
from trainer.models.reader import ReaderModel
from trainer.models.reading import RapidReader
from trainer.scoring.cross_validation import candidate_ranks
from trainer.settings import READER, TrainSettings

_SIDE = 224
Frame = Callable[[Image.Image], Image.Image]

FRAMES: dict[str, Frame] = {
    "whole thumbnail, as stored": lambda image: image,
    "whole thumbnail, squashed to 224 x 224": lambda image: framed(image, "squash", side=_SIDE, fill=(0, 0, 0)),
    "middle square, not scaled": lambda image: _middle(image, min(image.size)),
    "centre crop of 224 pixels, bars kept": lambda image: _middle(image, _SIDE),
}


@dataclass
class FramedReader:
    """The reader of one frame. See `trainer.models.reading.Reader`."""

    name: str
    frame: Frame

    def read(self, image: Image.Image) -> str:
        """Return the words in the frame of a picture."""
        return RapidReader().read(self.frame(image))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_channel_options(parser)
    parser.add_argument("--repeats", type=int, default=1, help="number of times that each thumbnail is read")
    parser.add_argument("--only", default="", help="measure only the frames whose description contains this")
    arguments = parser.parse_args()
    RapidReader().read(Image.new("RGB", (480, 360)))  # loads the models
    for name, catalogue in catalogues(arguments).items():
        with synced(catalogue()) as database:
            measure(database, name, arguments.repeats, arguments.only)


def measure(database: Database, name: str, repeats: int, only: str) -> None:
    chosen = train_and_valid(database)
    digests = sorted({row.picture_sha256 for row in chosen.examples})
    images = StoredPictures(database).load(digests)
    print(f"\n## {name}: {len(chosen.examples)} rows, nothing trained\n")
    print("| frame | without words | recall@1 | 95 % interval | recall@5 | thumbnails a second | of processor time |")
    print("|---|---|---|---|---|---|---|")
    for title in (title for title in FRAMES if only in title):
        reader, walls, spent, words = FramedReader(title, FRAMES[title]), list[float](), list[float](), list[str]()
        for _ in range(repeats):
            begun, before = time.perf_counter(), time.process_time()
            words = [reader.read(image) for image in images]
            walls.append(time.perf_counter() - begun)
            spent.append(time.process_time() - before)
        database.transact(
            partial(write_words, reader=title, texts=dict(zip(digests, words, strict=True)), at=utc_now())
        )
        ranks = ranks_of_words(database, reader, chosen)
        print(
            f"| {title} | {sum(not text for text in words)} | {(ranks == 1).mean():.3f} | "
            f"{interval(ranks, [row.group_id for row in chosen.examples])} | {(ranks <= 5).mean():.3f} | "
            f"{len(images) / min(walls):.1f} | {len(images) / min(spent):.1f} |",
            flush=True,
        )


def ranks_of_words(database: Database, reader: FramedReader, chosen: Selection) -> NDArray[np.int64]:
    """Rank each thumbnail's title among those of all rows, by the stored words of the frame: (1, n) int."""
    model = ReaderModel(database, "cpu", reader=reader)
    rows = triplets_of(pooled(database, model, chosen, TrainSettings(model=READER)), chosen)
    found = Candidate(rows, model.facts.projections)
    pictures, titles = found.vectors(found.fitted([], np.arange(0)))
    labels = rows.labels[rows.positive].astype(np.intp)
    return candidate_ranks(pictures, titles, np.arange(len(pictures)), labels)[None]


def _middle(image: Image.Image, side: int) -> Image.Image:
    """The middle square, scaled to `side` pixels: with 224, the result of CLIP's preprocessing."""
    return ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    main()
