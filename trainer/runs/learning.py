"""Create the learner of a run from its settings, or recreate that of a recorded run to refit it on folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from store.db import Database
from store.tables import TrainingRun
from store.training import ExampleRow
from trainer.artifacts import load_tensors, tensors_file
from trainer.data import Selection, StoredPictures
from trainer.errors import BadSetting, RunUnusable
from trainer.fitting import Learner, Pooled, ProjectionsLearner, WithReaderLearner, without_reader
from trainer.models import LazyModel, Projections, open_reader
from trainer.progress import Progress
from trainer.runs.preparing import Prepared, encode, names_to_train, require_no_adapters
from trainer.runs.record import Run
from trainer.runs.recorded import base_of, load_run_model, precision_here, run_settings
from trainer.settings import CHOSEN, CLOSED_FORM, FEATURES_IN_MEMORY, TrainSettings, with_chosen

if TYPE_CHECKING:
    from trainer.cluster import Processes

__all__ = [
    "cached_learner",
    "continues_from_champion",
    "open_learner",
    "reopen_base",
    "reopen_learner",
    "require_processes",
]


def continues_from_champion(settings: TrainSettings) -> bool:
    """Whether the run continues from the champion's weights."""
    return settings.start == "champion"


def open_learner(
    run: Run, model: LazyModel, chosen: Selection, prepared: Prepared, in_use: TrainingRun | None
) -> Learner:
    """Create a run's learner: projections on cached vectors if only projections are trained, else the whole model.

    With the reader, the words on the thumbnails are read now.

    Raises:
        BadSetting: the settings combine the reader with training the whole model.
        RunUnusable: the run continues from a champion whose tensors can't be loaded.
    """
    settings = run.settings
    if run.processes is not None:
        require_processes(settings, run.processes, _only_projections(model, settings))
    changed = (
        _champions_tensors(run.database, in_use, model)
        if continues_from_champion(settings) and in_use is not None
        else {}
    )
    learner = cached_learner(model, settings, prepared.rows, prepared.pooled, changed)
    if learner is not None and not settings.with_reader:
        return learner
    if learner is not None:
        return _beside_reader(run.database, learner, chosen, settings, run.progress, in_memory=run.features_in_memory)
    if settings.with_reader:
        raise BadSetting(
            f"--with-reader requires a model that is trained on cached features, and --train {settings.train!r} trains "
            "the whole model; use --train cca, ridge or projection"
        )
    if changed and in_use is not None:
        encoder = load_run_model(run.database, in_use.id, device=settings.device)
        encoder = replace(encoder, crop_mode=settings.fit, bars=settings.bars)
    else:
        encoder = model.encoder()
    from trainer.fitting import WholeLearner, fit_full_model  # noqa: PLC0415 (heavy; cached features need none of it)

    fit = fit_full_model if run.processes is None else run.processes.fitting(changed)
    return WholeLearner(encoder, changed, encoder.framed(StoredPictures(run.database)), settings, fit)


def require_processes(settings: TrainSettings, processes: Processes, projections: Sequence[str] = ()) -> None:
    """Refuse work that several processes can't share.

    Args:
        settings: the run's settings.
        processes: the processes.
        projections: the names of the projections to train, if nothing else is trained, and they are known.

    Raises:
        BadSetting: only projections are trained, which needs one process; or a batch has fewer rows than processes.
    """
    only_projections = projections or settings.train in ("projection", *CLOSED_FORM)
    if only_projections and processes.refuses_projections:
        raise BadSetting(
            f"--train {settings.train} trains projections on cached vectors, in one process; leave out torchrun, or "
            "use --train all, lora or an expression that matches other parameters"
        )
    if not only_projections and settings.batch_size < processes.count:
        raise BadSetting(
            f"--batch-size {settings.batch_size} is the number of pairs for all {processes.count} processes together; "
            f"use {processes.count} or more"
        )


def reopen_learner(
    database: Database, recorded: TrainingRun, device: str, chosen: Selection, progress: Progress
) -> ProjectionsLearner | WithReaderLearner | None:
    """Recreate a recorded run's learner on today's pairs; None for a whole model or a run that continued from another.

    Raises:
        RunUnusable, ModelUnavailable: the run's base model can't be loaded, or has changed.
    """
    if continues_from_champion(run_settings(recorded)):
        return None
    base, settings = _base_of(database, recorded, device)
    if not _only_projections(base, settings):
        return None
    learner = cached_learner(base, settings, chosen.examples, encode(database, base, chosen, settings, progress), {})
    if learner is None or not settings.with_reader:
        return learner
    # Runs of older versions did not train the reader.
    trains_reader = "reader_penalty" in recorded.settings.get(CHOSEN, {})
    return _beside_reader(database, learner, chosen, settings, progress, trains_reader=trains_reader)


def reopen_base(
    database: Database, recorded: TrainingRun, device: str, chosen: Selection, progress: Progress
) -> tuple[Projections, Pooled]:
    """Return the projections of a recorded run's base model, and today's pairs as that model's features.

    Raises:
        RunUnusable, ModelUnavailable: the base model can't be loaded, or has changed.
    """
    base, settings = _base_of(database, recorded, device)
    return base.facts.projections, encode(database, base, chosen, settings, progress)


def _base_of(database: Database, recorded: TrainingRun, device: str) -> tuple[LazyModel, TrainSettings]:
    settings = with_chosen(run_settings(recorded), recorded.settings.get(CHOSEN, {}))
    base = base_of(database, recorded, device)
    return base, replace(settings, precision=precision_here(settings, base.device))


def _only_projections(model: LazyModel, settings: TrainSettings) -> list[str]:
    """The names of the projections to train; empty if anything else is trained too."""
    if settings.train == "lora":
        return []
    names = names_to_train(model.facts, settings)
    return names if set(names) <= model.facts.projections.tensors().keys() else []


def cached_learner(
    model: LazyModel,
    settings: TrainSettings,
    rows: Sequence[ExampleRow],
    pooled: Pooled,
    changed: dict[str, Tensor],
) -> ProjectionsLearner | None:
    """Create a learner of projections on known features; None if the run trains anything else too.

    Args:
        model: the base model.
        settings: the run's settings.
        rows: the snapshot's examples.
        pooled: their features.
        changed: initial tensors, where they differ from the base model's.
    """
    names = _only_projections(model, settings)
    projections = model.facts.projections.with_tensors(changed)
    if not names or projections is None:
        return None
    groups = {row.picture_sha256: row.group_id for row in rows}
    return ProjectionsLearner(model, projections, names, pooled, settings=settings, groups=groups)


def _beside_reader(
    database: Database,
    learner: ProjectionsLearner,
    chosen: Selection,
    settings: TrainSettings,
    progress: Progress,
    *,
    in_memory: int = FEATURES_IN_MEMORY,
    trains_reader: bool = True,
) -> WithReaderLearner:
    reader = open_reader(database, settings, learner.device)
    read = encode(database, reader, chosen, settings, progress, in_memory=in_memory)
    return WithReaderLearner(learner, reader, read, trains_reader=trains_reader)


def _champions_tensors(database: Database, in_use: TrainingRun, base: LazyModel) -> dict[str, Tensor]:
    if in_use.base_fingerprint != base.facts.fingerprint:
        raise RunUnusable(
            f"{base.name} is not the base model of the champion, run {in_use.id} (its fingerprint differs); "
            "restore the old model, or use --from base"
        )
    require_no_adapters(in_use)  # checked again, because another champion may have come into use since the start
    kept = load_tensors(tensors_file(database, in_use.artifact_path or ""), in_use.artifact_sha256 or "")
    return without_reader(kept)
