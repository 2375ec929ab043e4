"""The model that is in use: what `search` and `match` ask when the user names no other."""

from __future__ import annotations

from dataclasses import dataclass

from store.db import Database
from trainer.errors import RunUnusable
from trainer.models import Embedder
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs.recorded import embedder_of, model_embedder, named_model, run_in_use
from trainer.scoring import parse_run

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
    database: Database, which: str | None = None, device: str = "auto", progress: Progress | None = None
) -> InUse:
    """Open the model in use, or the one named.

    Args:
        database: the store.
        which: `N`, `N:base`, a folder or a hub name; None for the champion, or without one the base model.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: told while the model is opened.

    Raises:
        NotFound: there is no such run.
        RunUnusable: no run is done yet, or the run's model can't be had again.
        ModelUnavailable: the model can't be loaded.
        BadSetting: the name is blank, or the device is not available.
    """
    run = parse_run(which) if which is not None else _in_use(database)
    with quiet_libraries(), (progress or Silent()).phase("Opening the model"):
        if run is None:
            model = named_model(database, str(which), device)
            return InUse(str(which), None, False, model_embedder(database, model))
        name = f"run {run[0]}" + (", base" if run[1] == "base" else "")
        return InUse(name, run[0], run[1] == "tuned", embedder_of(database, *run, device=device))


def _in_use(database: Database) -> tuple[int, str]:
    found = run_in_use(database)
    if found is None:
        raise RunUnusable("no run has ended yet; run 'thumbtune train' first, or name a model with --model")
    return found
