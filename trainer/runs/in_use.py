"""The model that is in use: what `search` and `match` ask when the user names no other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

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
    """A model, ready to embed.

    Args:
        name: `run N`, `run N, base`, or the model's name.
        run_id: the run whose model it is, or None.
        trained: whether it is what that run trained, and not the base model that it started from.
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
) -> InUse:
    """Open the model in use, or the one named.

    Args:
        database: the store.
        which: `N`, `N:base`, a folder or a hub name; None for the champion of the narrowest scope that has all of
            `channels`; without one, the base model of the newest run, or the default one before any training.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: told while the model is opened, and of a base model that is used for want of a trained one.
        channels: ids of the channels that are asked about; empty for all.

    Raises:
        NotFound: there is no such run.
        RunUnusable: the run's model can't be had again.
        ModelUnavailable: the model can't be loaded.
        BadSetting: the name is blank, or the device is not available.
    """
    progress = progress or Silent()
    run = parse_run(which) if which is not None else run_in_use(database, channels)
    if which is None and (run is None or run[1] == "base"):
        of_run = "" if run is None else f" of run {run[0]}"
        progress.warn(
            f"no trained model is in use for these channels, so this is the base model{of_run}; 'thumbtune train' "
            "trains one"
        )
    if which is None:
        which = DEFAULT_MODEL
    with quiet_libraries(), progress.phase("Opening the model"):
        if run is None:
            model = named_model(database, str(which), device)
            return InUse(str(which), None, False, model_embedder(database, model))
        name = f"run {run[0]}" + (", base" if run[1] == "base" else "")
        return InUse(name, run[0], run[1] == "tuned", embedder_of(database, *run, device=device))
