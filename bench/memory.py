"""Measure the memory of a large channel's first run in addition to the model.

    python -m bench.memory [--videos 20000]

Syncs a channel with distinct thumbnails and titles, and does a complete first training run: encoding, mining, fitting
and scoring. The model is as wide as ViT-B/32 with one layer per tower: its batches and pooled vectors have the same
size, at a fraction of the computation. Another process, which only loads the model, measures the model's memory.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from bench.channels import sync
from bench.child import measure
from bench.models import model_folder
from bench.results import Result, Target, add_json_option, show
from thumbtune.demo.channel import drawn_channel
from thumbtune.standin.catalogue import Catalogue, StandInVideo, channel_id_from
from thumbtune.standin.server import StandIn

MODEL = "vit-b-32-one-layer"
DRAWN = 400


def large_channel(videos: int) -> Catalogue:
    """Return a channel of `videos` pairs: repeated drawn pairs, each copy with a distinct file and title."""
    drawn = drawn_channel(DRAWN).public()
    files = [video.picture() for video in drawn]
    first = datetime(2000, 1, 1, tzinfo=UTC)
    catalogue = Catalogue(channel_id_from("large"), "@large", "Large")
    catalogue.publish(
        *(
            StandInVideo(
                id=urlsafe_b64encode(hashlib.sha256(str(number).encode()).digest()[:8]).decode().rstrip("="),
                title=f"{drawn[number % len(drawn)].title}, number {number}",
                published_at=first + timedelta(hours=number),
                duration_s=600,
                picture=partial(_copy, files, number),
                picture_at_hand=True,
            )
            for number in range(videos)
        )
    )
    return catalogue


def _copy(files: list[bytes], number: int) -> bytes:
    # Appended bytes change the digest, and decoders ignore them.
    return files[number % len(files)] + number.to_bytes(4, "big")


def compare(videos: int, models: Callable[[Path], Path]) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        store, model = f"sqlite:///{Path(folder) / 'thumbtune.db'}", str(models(Path(folder)))
        catalogue = large_channel(videos)
        with StandIn(catalogue) as server:
            sync(catalogue, server, store)
        alone = measure("loaded_model", model=model)
        settings = {"model": model, "title_model": "base", "device": "cpu"}
        run = measure("training_run", store=store, settings=settings)
    return Result(
        what=f"memory of a first run on {videos:,} videos, without the model",
        recipe=None,
        thumbtune=(run.peak_rss_mb - alone.peak_rss_mb) / 1000,
        unit="GB",
        target=Target("<=", 1.5, of="thumbtune"),
        how="`python -m bench.memory`: peak resident memory minus that of loading the model",
        raw={"model_alone": asdict(alone), "run": asdict(run)},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--models", type=Path, help="folder to keep the model in for later runs")
    add_json_option(parser)
    arguments = parser.parse_args()
    result = compare(arguments.videos, lambda scratch: model_folder(MODEL, arguments.models or scratch))
    show([result], arguments.json)


if __name__ == "__main__":
    main()
