"""Models of recorded runs: load the base model with the run's tensors, export it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.db import Database
from store.tables import TrainingRun
from store.training import (
    get_run,
    model_in_use,
)
from trainer.artifacts import check_place, load_tensors, put_tensors, save_whole_model, tensors_file
from trainer.errors import BadSetting, DamagedModel, RunUnusable, UnknownModel
from trainer.fitting import WithReader, of_reader, weights_in, without_reader
from trainer.models import (
    CachedEmbedder,
    Embedder,
    Encoder,
    Features,
    LazyModel,
    Projections,
    model_folder,
    named_parameters,
    open_base,
    open_model,
    open_reader,
    pick_device,
    pick_precision,
)
from trainer.quiet import quiet_libraries
from trainer.scoring import Weights
from trainer.settings import Precision, TrainSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

__all__ = [
    "base_of",
    "check_base",
    "embedder_of",
    "export_model",
    "load_run_model",
    "model_embedder",
    "named_model",
    "run_in_use",
    "run_settings",
]


def run_settings(run: TrainingRun) -> TrainSettings:
    """The settings that a run recorded. Settings that it did not have yet get today's default."""
    return TrainSettings.from_dict(run.settings)


def run_in_use(database: Database, channels: Collection[str] = ()) -> tuple[int, str] | None:
    """The model in use for these channels (ids; empty for all), see `store.training.model_in_use`."""
    with database.read() as session:
        return model_in_use(session, channels)


def check_base(run: TrainingRun) -> None:
    """Check that a run's base model is still in its folder. Hub names are checked later.

    Raises:
        RunUnusable: the model is missing or incomplete.
    """
    try:
        model_folder(run.base_model, "--model")
    except (UnknownModel, DamagedModel) as error:
        found = "is incomplete" if isinstance(error, DamagedModel) else "was not found"
        reason = f" ({error.__cause__.strerror})" if isinstance(error.__cause__, OSError) else ""
        raise RunUnusable(f"the base model of run {run.id} {found} at {run.base_model}{reason}; restore it") from error


@dataclass(frozen=True)
class _RunModel:
    """A run's model, not loaded yet.

    Args:
        base: the base model.
        projections: the projections to use, or None for the model's own.
        weights: the weights of the reader, or None if it is not used.
        reader: the reader's trained tensors; empty if it was not trained.
        settings: the run's settings.
    """

    base: LazyModel
    projections: Projections | None
    weights: Weights | None
    reader: dict[str, Tensor]
    settings: TrainSettings


def _run_model(database: Database, run_id: int, model: str, device: str) -> _RunModel:
    """Find a run's model without loading it.

    Raises:
        NotFound: there is no such run.
        RunUnusable: the run is not done, its tensors are gone or changed, or its base model is gone or changed.
        ModelUnavailable: the base model can't be loaded.
    """
    with database.read() as session:
        run = get_run(session, run_id)
    if run.status != "done":
        raise RunUnusable(
            f"run {run_id} is {run.status}, so it has no model; 'thumbtune runs' lists the runs that are done"
        )
    settings = run_settings(run)
    base = base_of(database, run, device)
    if model == "base":
        return _RunModel(base, None, None, {}, settings)
    if run.artifact_path is None or run.artifact_sha256 is None:
        raise RunUnusable(f"run {run_id} is a trial of a sweep, which saves no model; train with its settings")
    path = tensors_file(database, run.artifact_path)
    kept = load_tensors(path, run.artifact_sha256)
    weights, tensors = (weights_in(kept) if settings.with_reader else None), without_reader(kept)
    projections = base.facts.projections.with_tensors(tensors)
    if projections is not None:
        return _RunModel(base, projections, weights, of_reader(kept), settings)

    def change(loaded: SentenceTransformer) -> None:
        if settings.train == "lora":
            from trainer.fitting import merge_adapters  # noqa: PLC0415 (peft takes seconds to import)

            merge_adapters(loaded, settings, tensors)
        else:
            put_tensors(named_parameters(loaded), tensors, str(path))

    changed = base_of(database, run, device, (run.artifact_sha256, change))
    return _RunModel(changed, None, weights, of_reader(kept), settings)


def base_of(
    database: Database,
    run: TrainingRun,
    device: str,
    changed: tuple[str, Callable[[SentenceTransformer], None]] | None = None,
) -> LazyModel:
    """The model that a run started from, not loaded yet.

    Args:
        database: the store.
        run: the run.
        device: `auto`, `cpu`, `cuda` or `mps`.
        changed: see `LazyModel`.

    Raises:
        RunUnusable: the model is gone, or another model is in its place.
        ModelUnavailable: the model can't be loaded.
    """
    check_base(run)
    base = open_base(
        database,
        replace(run_settings(run), model=run.base_model),
        pick_device(device),
        # Later errors name the option with which another base model can be chosen.
        option="'thumbtune train --model'",
        changed=changed,
    )
    if changed is None and base.facts.fingerprint != run.base_fingerprint:
        raise RunUnusable(
            f"{run.base_model} is not the base model of run {run.id} (its fingerprint differs); "
            "restore the old model, or train again"
        )
    return base


def load_run_model(database: Database, run_id: int, model: str = "tuned", device: str = "auto") -> Encoder:
    """Load a run's whole model: its base model, with the trained tensors if `model` is `tuned`.

    Args:
        database: the store.
        run_id: a run that is `done`.
        model: `tuned` or `base`.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        NotFound: there is no such run.
        RunUnusable: the run is not done, its tensors are gone or changed, or its base model is gone or changed.
        ModelUnavailable: the base model can't be loaded.
    """
    found = _run_model(database, run_id, model, device)
    if found.weights is not None:
        raise RunUnusable(
            f"run {run_id} includes the reader, and a sentence-transformers folder can't read the words on thumbnails; "
            "use it with 'thumbtune search' and 'match', or train without --with-reader"
        )
    encoder = found.base.encoder()
    if found.projections is not None:
        put_tensors(named_parameters(encoder.model), found.projections.tensors(), "the run's file")
    return encoder


def embedder_of(database: Database, run_id: int, model: str = "tuned", device: str = "auto") -> Embedder:
    """Open a run's model for embedding, through the feature cache. Its towers are loaded only for uncached inputs.

    The arguments and errors are those of `load_run_model`.
    """
    found = _run_model(database, run_id, model, device)
    settings = found.settings
    if model == "tuned" and found.projections is None:
        # The whole model was trained and scored in fp32; the precision setting applies only to frozen towers.
        settings = replace(settings, precision="fp32")
    embedder = model_embedder(database, found.base, found.projections, settings)
    if found.weights is None:
        return embedder
    reader = open_reader(database, settings, found.base.device)
    projections = reader.facts.projections.with_tensors(found.reader)
    if projections is None:
        raise RunUnusable(f"the reader of run {run_id} does not match {settings.text_model}; restore that model")
    return WithReader(embedder, model_embedder(database, reader, projections, settings), found.weights)


def named_model(database: Database, name: str, device: str) -> LazyModel:
    """Open a model that is named by a folder or a hub name, without loading it.

    Args:
        database: the store.
        name: the name that the user gave.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        BadSetting: the name is blank, or the device is not available.
        UnknownModel, DamagedModel: a folder does not exist or contains no model. Hub names are checked later.
    """
    if not name.strip():
        # An empty path would mean the current folder.
        raise BadSetting("the model name is empty; use a run, a folder or a hub name with --model")
    # Check before fingerprinting the files: a folder that is not a model's may be a whole disk.
    model_folder(name, "--model", takes="N (the model of run N), N:base (its base model)")
    return open_model(database, name, pick_device(device), option="--model")


def model_embedder(
    database: Database, model: LazyModel, projections: Projections | None = None, settings: TrainSettings | None = None
) -> CachedEmbedder:
    """Open any model for embedding, through the feature cache.

    Args:
        database: the store.
        model: the model.
        projections: projections to use instead of its own.
        settings: the precision, crop mode and bars to use; a precision that this device does not support becomes fp32.
    """
    chosen = projections or model.facts.projections
    settings = settings or TrainSettings()
    precision = precision_here(settings, model.device)
    return CachedEmbedder(Features(database, model, precision, settings.fit, settings.bars), chosen)


def precision_here(settings: TrainSettings, device: str) -> Precision:
    """Return the precision of a recorded run's settings on this device: fp32 if it does not support bf16."""
    found: Any = pick_precision("auto" if settings.precision == "bf16" else settings.precision, device)
    precision: Precision = found
    return precision


def _trained_in_use(database: Database) -> int:
    found = run_in_use(database)
    if found is None:
        raise RunUnusable("there are no finished runs; run 'thumbtune train' first")
    run_id, model = found
    if model == "base":
        raise RunUnusable(
            "no trained model is in use for all channels; choose a run with --run ('thumbtune runs' lists them)"
        )
    return run_id


def export_model(database: Database, folder: Path, run_id: int | None = None, device: str = "auto") -> int:
    """Write a run's whole model as a folder that `SentenceTransformer(folder)` loads; return the run's id.

    Args:
        database: the store.
        folder: a new or empty folder.
        run_id: None for the champion; if there is none, the newest run that is done.
        device: the device on which to load the model.

    Raises:
        CantSave: the folder is not empty, or can't be written.
        NotFound, RunUnusable, ModelUnavailable: see `load_run_model`.
    """
    check_place(folder)
    chosen = _trained_in_use(database) if run_id is None else run_id
    with quiet_libraries():
        encoder = load_run_model(database, chosen, device=device)
        from trainer.runs.cards import model_card  # noqa: PLC0415 (the hub's library)

        save_whole_model(encoder.model, folder, model_card(database, chosen))
    return chosen
