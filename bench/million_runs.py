"""Whole runs on many pairs, for `bench.million`: synthetic vectors in the cache, training, evaluation, and search.

The base model has ViT-L/14's widths and one layer: its towers never run, because all vectors are in the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import model_folder
from store.db import open_database
from store.training import current_pairs
from thumbtune.answers.modelled import Answerer
from trainer.models import Features, open_model
from trainer.quiet import quiet_libraries
from trainer.runs import evaluate, train
from trainer.settings import FEATURES_IN_MEMORY, TrainSettings

__all__ = ["STEPS"]

_AT_ONCE = 512
_NOISE = 3.0


def _settings(folder: Path, train: str) -> TrainSettings:
    model = model_folder("vit-l-14-one-layer", folder)
    shared: dict[str, Any] = {"model": str(model), "device": "cpu", "title_model": "base", "train": train}
    return TrainSettings(
        **shared, epochs=1, temperature=0.05, batch_size=256, negatives="least-similar", negatives_within="channel"
    )


def fill_cache(url: str, folder: Path) -> str:
    """Write vectors of all thumbnails (1,024 numbers) and titles (768) to the cache; a pair's vectors are related."""
    settings = _settings(folder, "projection")
    with open_database(url) as database, quiet_libraries():
        features = Features(
            database, open_model(database, settings.model, "cpu"), settings.precision, settings.fit, settings.bars
        )
        with database.read() as session:
            pairs = current_pairs(session)
        generator = np.random.default_rng(0)
        for start in range(0, len(pairs), _AT_ONCE):
            batch = pairs[start : start + _AT_ONCE]
            seen = generator.standard_normal((len(batch), 1024), dtype=np.float32)
            said = seen[:, :768] + _NOISE * generator.standard_normal((len(batch), 768), dtype=np.float32)
            features._cache("vision", keep=True).write([pair.picture_sha256 for pair in batch], seen)
            digests = [hashlib.sha256(pair.title.encode()).hexdigest() for pair in batch]
            features._cache("text", keep=True).write(digests, said)
    return f"{len(pairs):,} pairs"


def _trained(how: str) -> Callable[[str, Path], str]:
    def run(url: str, folder: Path) -> str:
        with open_database(url) as database:
            with database.read() as session:
                pairs = len(current_pairs(session))
            # In proportion to the pairs, so that memory for 10^6 pairs can be computed; with 10^6, it is the default.
            held = FEATURES_IN_MEMORY * pairs // 10**6
            result = train(database, _settings(folder, how), features_in_memory=held)
        phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.seconds.items() if seconds >= 1)
        before, after = (scores.table()["valid"]["recall@1"] for scores in (result.base, result.tuned))
        return f"run {result.run_id}, valid recall@1 {before:.3f} to {after:.3f}; {phases}"

    return run


def _evaluated(url: str, _folder: Path) -> str:
    with open_database(url) as database:
        found = evaluate(database, device="cpu")
    recall = found.scores.table()["valid"]["recall@1"]
    return f"{found.name}, valid recall@1 {recall:.3f}; equal to the recorded figures: {found.matches}"


def _searched(url: str, folder: Path) -> str:
    settings = _settings(folder, "projection")
    with open_database(url) as database:
        found = Answerer(database, settings.model, "cpu").search("word1 word2 word3", 10)
    return f"{len(found.library.pairs):,} thumbnails, the best scores {found.found[0].score:.3f}"


STEPS: dict[str, Callable[[str, Path], str]] = {
    "fill the cache": fill_cache,
    "train --train projection": _trained("projection"),
    "train --train cca": _trained("cca"),
    "train --train ridge": _trained("ridge"),
    "evaluate": _evaluated,
    "search": _searched,
}
"""Functions that take the store's URL and a folder, and return the result in words."""
