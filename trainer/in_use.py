"""The model that is in use: what `search` and `match` ask when the user names no other."""

from __future__ import annotations

from dataclasses import dataclass

from store.database import Database
from store.runs import newest_done_run
from trainer.encoder import Encoder, load_encoder, pick_device
from trainer.errors import RunUnusable
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.recorded import load_run_model
from trainer.run_names import parse_run

__all__ = ["InUse", "open_in_use"]


@dataclass(frozen=True)
class InUse:
    """A model, ready to embed.

    Args:
        name: `run N`, `run N, base`, or the model's name.
        run_id: the run whose model it is, or None.
        embedder: embeds pictures and titles into one space.
    """

    name: str
    run_id: int | None
    embedder: Encoder


def open_in_use(
    database: Database, which: str | None = None, device: str = "auto", progress: Progress | None = None
) -> InUse:
    """Load the model in use, or the one named.

    Args:
        database: the store.
        which: `N`, `N:base`, a folder or a hub name; None for the newest run that is done.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: told while the model is loaded.

    Raises:
        NotFound: there is no such run.
        RunUnusable: no run is done yet, or the run's model can't be had again.
        ModelUnavailable: the model can't be loaded.
        BadSetting: the device is not available.
    """
    run = parse_run(which) if which is not None else (_newest(database), "tuned")
    with quiet_libraries(), (progress or Silent()).phase("Loading the model"):
        if run is None:
            return InUse(str(which), None, load_encoder(str(which), pick_device(device), option="--run"))
        name = f"run {run[0]}" + (", base" if run[1] == "base" else "")
        return InUse(name, run[0], load_run_model(database, *run, device=device))


def _newest(database: Database) -> int:
    with database.read() as session:
        run = newest_done_run(session)
    if run is None:
        raise RunUnusable("no run has ended yet; run 'thumbtune train' first, or name a model with --run")
    return run.id
