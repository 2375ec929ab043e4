"""The published recipe with current libraries, as a notebook runs it every week: the baseline of the benchmarks.

It has no avoidable costs: no evaluation during training, no checkpoints, no upload, no progress bars.
"""

from __future__ import annotations

import tempfile
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
import requests
import torch
from datasets import Dataset
from PIL import Image
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from bench.clock import Clock
from trainer.quiet import quiet_libraries

__all__ = ["run"]


def run(clock: Clock, *, table: str, model: str, title_model: str, device: str = "cpu") -> dict[str, Any]:
    """Run the recipe from its list of videos to its recall.

    Args:
        clock: times the phases.
        table: a CSV file with the columns `title` and `url`, newest video first.
        model: the CLIP model's folder.
        title_model: the title model's folder.
        device: the torch device.

    Returns:
        {"recall@1": {"base": {split: value}, "tuned": ...}, "rows": {split: n}}
    """
    with quiet_libraries():
        videos = pd.read_csv(table, keep_default_na=False)
        with clock.phase("mine"):
            videos["negative"] = least_similar_titles(list(videos.title), title_model, device)
        with clock.phase("fetch"):
            pictures = [Image.open(BytesIO(requests.get(url, timeout=60).content)) for url in videos.url]
        with clock.phase("dataset"):
            videos = pd.concat([videos, pd.Series(pictures, name="picture", dtype=object)], axis=1)
            splits = {name: as_dataset(frame) for name, frame in split(videos).items()}
        with clock.phase("load"):
            clip = SentenceTransformer(model, device=device)
        with clock.phase("evaluate"):
            base = {name: recall_at_1(clip, dataset) for name, dataset in splits.items()}
        fit(clock, clip, splits["train"], device)
        with clock.phase("evaluate"):
            tuned = {name: recall_at_1(clip, dataset) for name, dataset in splits.items()}
    rows = {name: len(dataset) for name, dataset in splits.items()}
    return {"recall@1": {"base": base, "tuned": tuned}, "rows": rows}


def least_similar_titles(titles: list[str], title_model: str, device: str) -> list[str]:
    """Return the least similar other title of each title, each used once, greedily in row order."""
    model = SentenceTransformer(title_model, device=device)
    vectors = model.encode(titles, show_progress_bar=False)
    similarity = model.similarity(vectors, vectors).numpy()
    free = np.ones(len(titles), dtype=bool)
    negatives = []
    for row in similarity:
        pick = int(np.argmin(np.where(free, row, np.inf)))
        free[pick] = False
        negatives.append(titles[pick])
    return negatives


def split(videos: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Shuffle, then split into 70 %, 15 % and the rest."""
    shuffled = videos.sample(frac=1, random_state=42).reset_index(drop=True)
    first, second = int(0.7 * len(shuffled)), int(0.7 * len(shuffled)) + int(0.15 * len(shuffled))
    return {"train": shuffled[:first], "valid": shuffled[first:second], "test": shuffled[second:]}


def as_dataset(frame: pd.DataFrame) -> Dataset:
    """Return (anchor = thumbnail, positive = title, negative = other title), in this column order."""
    columns = {"anchor": "picture", "positive": "title", "negative": "negative"}
    return Dataset.from_dict({role: list(frame[column]) for role, column in columns.items()})


def recall_at_1(model: SentenceTransformer, dataset: Dataset) -> float:
    """Return the share of thumbnails whose own title is the most similar of all titles of the split."""
    pictures = model.encode(list(dataset["anchor"]), show_progress_bar=False, convert_to_tensor=True)
    titles = model.encode(list(dataset["positive"]), show_progress_bar=False, convert_to_tensor=True)
    similarity = model.similarity(pictures, titles).cpu()
    return float((similarity.argmax(dim=1) == torch.arange(len(titles))).float().mean())


def fit(clock: Clock, model: SentenceTransformer, dataset: Dataset, device: str) -> None:
    """Train the projections with the library's trainer on the whole model. Phase `fit` is only the training loop."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("projection" in name)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=2,
            per_device_train_batch_size=16,
            learning_rate=1e-4,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=device == "cpu",
        )
        loss = MultipleNegativesRankingLoss(model)
        with clock.phase("prepare"):
            trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=dataset, loss=loss)
        with clock.phase("fit"):
            trainer.train()
