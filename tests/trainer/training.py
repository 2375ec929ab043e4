"""Helpers for tests of whole runs: settings for the tiny CLIP, results of runs, and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sqlalchemy import select
from torch import Tensor

from store.db import Database
from store.tables import Rank
from store.training import NewPairs, champion, get_run, promote, steps
from trainer.data import StoredPictures
from trainer.models import Embedder
from trainer.runs import TrainResult, retraining, train
from trainer.settings import TrainSettings

__all__ = ["artifact", "train_in_use", "embedded_plainly", "losses", "new_pairs", "ranks", "settings", "vectors"]


def settings(folder: Path, **other: Any) -> TrainSettings:
    """Return settings that train a tiny CLIP quickly."""
    quick = {"train": "projection", "title_model": "base", "lr": 1e-2, "epochs": 2, "temperature": 0.05}
    return TrainSettings(**{"model": str(folder), "device": "cpu", **quick, **other})


def train_in_use(database: Database, chosen: TrainSettings, **other: Any) -> TrainResult:
    """Train, and promote the run if there is no champion, however good its model is."""
    result = train(database, chosen, **other)
    with database.write() as session:
        if champion(session) is None:
            promote(session, result.run_id, "by hand")
    return result


def artifact(database: Database, run_id: int) -> dict[str, Tensor]:
    """Return a run's trained tensors."""
    with database.read() as session:
        return dict(load_file(str(get_run(session, run_id).artifact_path)))


def new_pairs(database: Database, channels: Sequence[str] = ()) -> NewPairs:
    """Return the pairs that count as new for retraining."""
    with database.read() as session:
        return retraining.new_pairs(session, channels)


def losses(database: Database, run_id: int) -> list[float]:
    """Return a run's losses by step."""
    with database.read() as session:
        return [step.loss for step in steps(session, run_id)]


def ranks(database: Database, run_id: int, model: str) -> list[dict[str, Any]]:
    """Return a run's ranks in the format of scoring, ordered by direction and video."""
    names = ("direction", "video_id", "split", "rank", "score", "top_video_id", "top_score")
    with database.read() as session:
        query = select(Rank).where(Rank.run_id == run_id, Rank.model == model).order_by(Rank.direction, Rank.video_id)
        return [{name: getattr(row, name) for name in names} for row in session.scalars(query)]


def vectors(embedder: Embedder, database: Database, digests: Sequence[str], titles: Sequence[str]) -> Any:
    """Embed all thumbnails and titles into one array."""
    seen = embedder.picture_vectors(digests, StoredPictures(database), lambda _n: None)
    return np.concatenate([seen, embedder.title_vectors(titles, lambda _n: None)])


def embedded_plainly(
    model: SentenceTransformer, database: Database, digests: Sequence[str], titles: Sequence[str]
) -> Any:
    """Like `vectors`, but only with sentence-transformers."""
    parts = [
        model.encode(inputs, normalize_embeddings=True, show_progress_bar=False)
        for inputs in (list(StoredPictures(database).load(digests)), list(titles))
    ]
    return np.concatenate(parts)
