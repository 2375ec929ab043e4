"""What a run trains: opened from its settings, and opened again from a recorded run's, to be refitted on folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from store.db import Database
from store.tables import TrainingRun
from store.training import ExampleRow
from trainer.artifacts import load_tensors, tensors_file
from trainer.data import Selection, StoredPictures
from trainer.errors import BadSetting, RunUnusable
from trainer.fitting import HeadsLearner, Learner, Pooled, WithReaderLearner, without_weights
from trainer.models import LazyModel, open_model
from trainer.progress import Progress
from trainer.runs.preparing import Prepared, encode, names_to_train, require_no_adapters
from trainer.runs.record import Run
from trainer.runs.recorded import base_of, load_run_model, run_settings
from trainer.settings import READER, TrainSettings

__all__ = ["cached_learner", "goes_on", "open_again", "open_learner"]


def goes_on(settings: TrainSettings) -> bool:
    """Whether a run continues from the champion's weights."""
    return settings.start == "champion"


def open_learner(
    run: Run, model: LazyModel, chosen: Selection, prepared: Prepared, in_use: TrainingRun | None
) -> Learner:
    """Open what a run trains: projections on cached vectors where that is all, else the whole model.

    With the reader beside it, the thumbnails are read now.

    Raises:
        BadSetting: the reader was asked for beside a whole model.
        RunUnusable: the run continues from a champion whose tensors can't be loaded.
    """
    settings = run.settings
    changed = _champions_tensors(run.database, in_use, model) if goes_on(settings) and in_use is not None else {}
    learner = cached_learner(model, settings, prepared.rows, prepared.pooled, changed)
    if learner is not None and not settings.with_reader:
        return learner
    if learner is not None:
        return _beside_reader(run.database, learner, chosen, settings, run.progress)
    if settings.with_reader:
        raise BadSetting(
            f"--with-reader weighs models that are trained on cached features, and --train {settings.train!r} runs the "
            "whole model; use --train projection or ridge"
        )
    if changed and in_use is not None:
        encoder = load_run_model(run.database, in_use.id, device=settings.device)
        encoder = replace(encoder, fit=settings.fit, bars=settings.bars)
    else:
        encoder = model.encoder()
    from trainer.fitting import WholeLearner  # noqa: PLC0415 (heavy, and a run on cached features needs none of it)

    return WholeLearner(encoder, changed, encoder.framed(StoredPictures(run.database)), settings)


def open_again(
    database: Database, recorded: TrainingRun, device: str, chosen: Selection, progress: Progress
) -> HeadsLearner | WithReaderLearner | None:
    """Open what a recorded run trained, on today's pairs; None if it was a whole model, or continued from another run.

    Raises:
        RunUnusable, ModelUnavailable: the run's base can't be loaded, or is another model now.
    """
    settings = run_settings(recorded)
    if goes_on(settings):
        return None
    base = base_of(database, recorded, device)
    if not _only_projections(base, settings):
        return None
    learner = cached_learner(base, settings, chosen.examples, encode(database, base, chosen, settings, progress), {})
    if learner is None or not settings.with_reader:
        return learner
    return _beside_reader(database, learner, chosen, settings, progress)


def _only_projections(model: LazyModel, settings: TrainSettings) -> list[str]:
    """The names of the projections that are trained; none if anything else is, too."""
    if settings.train == "lora":
        return []
    names = names_to_train(model.facts, settings)
    return names if set(names) <= model.facts.heads.tensors().keys() else []


def cached_learner(
    model: LazyModel,
    settings: TrainSettings,
    rows: Sequence[ExampleRow],
    pooled: Pooled,
    changed: dict[str, Tensor],
) -> HeadsLearner | None:
    """Open the training of projections on known features; None if the run trains anything else, too.

    Args:
        model: the base.
        settings: the run's.
        rows: the snapshot's examples.
        pooled: their features.
        changed: tensors to start from, where they are not the base's.
    """
    names = _only_projections(model, settings)
    heads = model.facts.heads.with_tensors(changed)
    if not names or heads is None:
        return None
    groups = {row.picture_sha256: row.group_id for row in rows}
    return HeadsLearner(model, heads, names, pooled, settings=settings, groups=groups)


def _beside_reader(
    database: Database, learner: HeadsLearner, chosen: Selection, settings: TrainSettings, progress: Progress
) -> WithReaderLearner:
    reader = open_model(database, READER, learner.device, text_model=settings.text_model)
    return WithReaderLearner(learner, encode(database, reader, chosen, settings, progress), reader.facts.heads)


def _champions_tensors(database: Database, in_use: TrainingRun, base: LazyModel) -> dict[str, Tensor]:
    if in_use.base_fingerprint != base.facts.fingerprint:
        raise RunUnusable(
            f"{base.name} is not the model that the champion, run {in_use.id}, started from (its fingerprint differs); "
            "put the old one back, or use --from base"
        )
    require_no_adapters(in_use)  # looked at before the work, too; another may have come into use since
    kept = load_tensors(tensors_file(database, in_use.artifact_path or ""), in_use.artifact_sha256 or "")
    return without_weights(kept)
