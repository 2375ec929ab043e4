"""The reference: sentence-transformers' trainer with its own collator, batch order and loss."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from tests.trainer.tiny import COLOURS, SHAPES, draw
from trainer.data.pictures import decoded
from trainer.fitting.loss import title_labels
from trainer.fitting.projections import PooledTriplets
from trainer.fitting.steps import Triplets
from trainer.models.towers import Towers
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings

__all__ = ["NAMES", "Drawn", "Recipe", "pooled", "recipe"]

NAMES = [f"{colour} {shape}" for shape in SHAPES[:2] for colour in COLOURS]


class Drawn:
    """Images by name ("red circle"); records every requested name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        """Draw the images with these names."""
        self.asked += digests
        return [decoded(draw(name.split()[0], name.split()[1]), name) for name in digests]


@dataclass(frozen=True)
class Recipe:
    """The result of the library's trainer: loss and learning rate of each step, and the model."""

    losses: list[float]
    rates: list[float]
    model: SentenceTransformer


def recipe(folder: Path, rows: Triplets, images: list[Image.Image], settings: TrainSettings) -> Recipe:
    """Train the model in `folder` like the recipe, with all images in a dataset column."""
    with quiet_libraries(), tempfile.TemporaryDirectory() as made:
        model = SentenceTransformer(str(folder), device="cpu")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(bool(re.search(settings.train, name)))
        columns: dict[str, list[object]] = {"anchor": list(images), "positive": list(rows.titles)}
        if rows.negatives is not None:
            columns["negative"] = list(rows.negatives)
        arguments = SentenceTransformerTrainingArguments(
            output_dir=made,
            num_train_epochs=settings.steps()[0],
            per_device_train_batch_size=settings.batch_size,
            learning_rate=1e-4 if settings.lr is None else settings.lr,
            seed=settings.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_dict(columns),
            loss=MultipleNegativesRankingLoss(model, scale=1 / settings.steps()[1]),
        )
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return Recipe([entry["loss"] for entry in logged], [entry["learning_rate"] for entry in logged], model)


def pooled(model: SentenceTransformer, rows: Triplets, images: list[Image.Image]) -> PooledTriplets:
    """Return the rows as cached training uses them: pooled vectors of each image and each distinct title."""
    towers = Towers(model, "cpu")
    titles = sorted({*rows.titles, *(rows.negatives or ())})
    at = {title: row for row, title in enumerate(titles)}
    labels = title_labels(titles)
    return PooledTriplets(
        towers.pooled_pictures(towers.prepared_pictures(images)),
        towers.pooled_titles(towers.prepared_titles(titles)),
        np.array([labels[title] for title in titles], np.int64),
        np.arange(len(rows.titles)),
        np.array([at[title] for title in rows.titles]),
        None if rows.negatives is None else np.array([at[title] for title in rows.negatives]),
    )
