"""Checks before the model libraries are loaded, which takes seconds, so that wrong names are reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.db import Database

__all__ = ["check_names"]


def check_names(database: Database, channels: Sequence[str] = (), model: str | None = None) -> None:
    """Check that channels are in the store, and that a model's run or folder exists.

    Args:
        database: the store.
        channels: ids or handles.
        model: the value of `--model`; None for the model in use.

    Raises:
        BadSetting: a channel is not in the store.
        NotFound: there is no such run.
        UnknownModel, DamagedModel: a folder does not exist or contains no model. Hub names are checked later.
    """
    from store.training import channel_titles, get_run  # noqa: PLC0415 (SQLAlchemy is slow to import)
    from trainer.data import channel_id  # noqa: PLC0415
    from trainer.models import model_folder  # noqa: PLC0415
    from trainer.scoring import parse_run  # noqa: PLC0415

    run = None if model is None else parse_run(model)
    with database.read() as session:
        known = channel_titles(session) if channels else {}
        for name in channels:
            channel_id(name, known)
        if run is not None:
            get_run(session, run[0])
    # The name `base` without a run is an error that each command explains itself.
    if model is not None and model.strip() and model != "base" and run is None:
        model_folder(model, "--model")
