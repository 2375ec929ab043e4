"""Checks before the model libraries are loaded, which takes seconds, so that wrong names are reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.db import Database
    from trainer.settings import TrainSettings

__all__ = ["check_names", "check_output", "check_settings"]


def check_names(
    database: Database, channels: Sequence[str] = (), model: str | None = None, *, run_id: int | None = None
) -> None:
    """Check that channels are in the store, and that a model exists.

    Args:
        database: the store.
        channels: ids or handles.
        model: the value of `--model`; None for the model in use.
        run_id: the value of `--run`; None if it was not given.

    Raises:
        BadSetting: a channel is not in the store.
        NotFound: there is no such run.
        ModelUnavailable: there is no such folder, cached model or model on the hub.
    """
    from store.training import channel_titles, get_run  # noqa: PLC0415 (SQLAlchemy is slow to import)
    from trainer.data import channel_id  # noqa: PLC0415
    from trainer.models import check_model  # noqa: PLC0415
    from trainer.scoring import parse_run  # noqa: PLC0415

    run = None if model is None else parse_run(model)
    run_to_find = run_id if run is None else run[0]
    with database.read() as session:
        known = channel_titles(session) if channels else {}
        for name in channels:
            channel_id(name, known)
        if run_to_find is not None:
            get_run(session, run_to_find)
    # The name `base` without a run is an error that each command explains itself.
    if model is not None and model.strip() and model != "base" and run is None:
        check_model(model, "--model", takes="N (run N's model), N:base (run N's base model)")


def check_settings(database: Database, settings: TrainSettings, output: Path | None = None) -> None:
    """Check the channels, the models and the output folder of a training.

    Args:
        database: the store.
        settings: the training's settings.
        output: the folder for the whole model.

    Raises:
        BadSetting, NotFound, ModelUnavailable: see `check_names`.
        CantSave: see `check_output`.
    """
    from trainer.models import check_model  # noqa: PLC0415
    from trainer.scoring import parse_run  # noqa: PLC0415
    from trainer.settings import CLOSED_FORM  # noqa: PLC0415

    check_output(output)
    of_run = parse_run(settings.model) is not None
    check_names(database, settings.channels, settings.model if of_run else None)
    if settings.start != "champion" and not of_run:
        check_model(settings.model, "--model")
    # The closed forms have no use for negatives, see `trainer.runs.preparing`.
    if settings.train not in CLOSED_FORM and settings.compares_titles() and settings.title_model != "base":
        check_model(settings.title_model, "--title-model")


def check_output(folder: Path | None) -> None:
    """Check that a new folder can be written.

    Args:
        folder: the folder; None for none.

    Raises:
        CantSave: it is a file, is not empty, or can't be created or written to.
    """
    if folder is not None:
        from trainer.artifacts import check_place  # noqa: PLC0415

        check_place(folder)
