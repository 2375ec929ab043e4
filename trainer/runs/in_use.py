"""The model in use: the default for `search` and `match`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from store.db import Database
from trainer.models import Embedder
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs.recorded import embedder_of, model_embedder, named_model, run_in_use
from trainer.scoring import parse_run
from trainer.settings import DEFAULT_MODEL

__all__ = ["InUse", "open_in_use"]


@dataclass(frozen=True)
class InUse:
    """A model that is ready to embed.

    Args:
        name: `run N`, `run N, base`, or the model's name.
        run_id: the run that the model belongs to, or None.
        trained: True for a trained run's model, False for a base model.
        embedder: embeds pictures and titles into one space, through the feature cache.
    """

    name: str
    run_id: int | None
    trained: bool
    embedder: Embedder


def open_in_use(
    database: Database,
    which: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    channels: Collection[str] = (),
    *,
    untrained: str = DEFAULT_MODEL,
) -> InUse:
    """Open the model in use, or the named model.

    Args:
        database: the store.
        which: `N`, `N:base`, a folder or a hub name. None for the champion of the narrowest scope that contains all of
            `channels`; if there is no champion, the base model of the first run; before any training,
            `untrained`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: receives the loading phase, and a warning if a base model is used because no trained run is in use.
        channels: ids of the queried channels; empty for all.
        untrained: the base model before any training: a folder or a hub name.

    Raises:
        NotFound: there is no such run.
        RunUnusable: the run's model can't be loaded again.
        ModelUnavailable: the model can't be loaded.
        BadSetting: the name is blank, or the device is not available.
    """
    progress = progress or Silent()
    run = parse_run(which) if which is not None else run_in_use(database, channels)
    if which is None and (run is None or run[1] == "base"):
        name = "" if Path(untrained).is_absolute() else f" {untrained}"
        progress.warn(
            f"nothing was trained yet, so this is the base model{name}; 'thumbtune train' trains a model"
            if run is None
            else f"no trained model is in use for these channels, so this is the base model of run {run[0]}; "
            "'thumbtune runs' lists the trained models"
        )
    if which is None:
        which = untrained
    with quiet_libraries(), progress.phase("Opening the model"):
        if run is None:
            model = named_model(database, str(which), device)
            return InUse(str(which), None, False, model_embedder(database, model))
        name = f"run {run[0]}" + (", base" if run[1] == "base" else "")
        return InUse(name, run[0], run[1] == "tuned", embedder_of(database, *run, device=device))
