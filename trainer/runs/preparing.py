"""Prepare a run: resolve its settings, select the parameters, encode the features and mine the negatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from store.db import Database
from store.tables import TrainingRun
from store.training import ExampleRow, champion, channel_titles, get_run
from trainer.artifacts import models_dir
from trainer.data import Selection, StoredPictures, channel_id, mine_negatives, positions_of, write_snapshot
from trainer.errors import BadSetting, RunUnusable
from trainer.fitting import Pooled, chosen_names
from trainer.models import (
    TEXT,
    VISUAL,
    CachedEmbedder,
    Facts,
    Features,
    LazyModel,
    TitleFeatures,
    TitleModel,
    Vectors,
    local_folder,
    model_folder,
    pick_device,
    pick_precision,
)
from trainer.progress import Progress, uncounted
from trainer.runs.recorded import check_base, run_settings
from trainer.scoring import parse_run
from trainer.settings import (
    CCA,
    CLOSED_FORM,
    DEFAULT_TEXT_MODEL,
    FEATURES_IN_MEMORY,
    READER,
    RIDGE,
    TrainSettings,
)

__all__ = ["Prepared", "encode", "mine", "names_to_train", "require_no_adapters", "resolved"]


@dataclass(frozen=True)
class Prepared:
    """The inputs of training: rows with negatives, and their features.

    Args:
        rows: the snapshot's examples.
        snapshot_id: the snapshot's id in the store.
        counts: {split: number of rows}.
        pooled: the inputs of the projections, for every thumbnail and title.
        titles_cut: the number of distinct titles that are longer than the base model's limit.
    """

    rows: list[ExampleRow]
    snapshot_id: int
    counts: dict[str, int]
    pooled: Pooled
    titles_cut: int


def resolved(database: Database, settings: TrainSettings) -> tuple[TrainSettings, str]:
    """Resolve the names in the settings (runs, folders, the champion, channels), and choose precision and device.

    Raises:
        BadSetting: the device or the precision is not available here, a channel is not in the store, or there is no
            champion to start from.
        NotFound: there is no such run.
        RunUnusable: the champion has LoRA adapters or its base model is gone, so training can't continue from it.
        UnknownModel, DamagedModel: a folder does not exist or contains no model. Hub names are checked later.
    """
    device = pick_device(settings.device)
    with database.read() as session:
        known = channel_titles(session)
    channels = tuple(channel_id(name, known) for name in settings.channels)
    model, text_model = settings.model, settings.text_model
    started_from = _run_of_base(database, settings, channels)
    if started_from is not None:
        model = started_from.base_model
        theirs = run_settings(started_from).text_model_of_base()
        if theirs is not None and settings.reads() and started_from.base_model != READER:
            raise BadSetting(
                f"the base model of run {started_from.id} embeds titles with {theirs}, which the reader would replace; "
                "leave out the reader, or export the model and use its folder with --model"
            )
        if theirs is not None and not settings.reads():
            text_model = theirs
    model = _absolute(model, "--model")
    title_model = settings.title_model
    if settings.compares_titles() and title_model != "base":
        title_model = _absolute(title_model, "--title-model")
    elif title_model != "base":
        # This run does not use the title model, so its folder is not checked. A later run in another folder may inherit
        # the setting and use it, so the path is absolute.
        folder = local_folder(title_model)
        title_model = title_model if folder is None else str(folder.absolute())
    if settings.reads() or text_model != DEFAULT_TEXT_MODEL:
        text_model = _absolute(text_model, "--text-model")
    precision: Any = pick_precision(settings.precision, device)
    # Closed forms are fitted on the pairs alone. Their negatives only serve exports of the snapshot.
    unused = settings.train in CLOSED_FORM and settings.compares_titles()
    negatives: Any = "random" if unused else settings.negatives
    chosen = replace(settings, model=model, title_model=title_model, text_model=text_model, negatives=negatives)
    return replace(chosen, precision=precision, channels=channels), device


def _run_of_base(database: Database, settings: TrainSettings, channels: Sequence[str]) -> TrainingRun | None:
    """The run whose base model is trained: the champion, or run N of `N:base`; None if the model is given by name."""
    if settings.start == "champion":
        with database.read() as session:
            in_use = champion(session, channels)
        if in_use is None:
            raise BadSetting("there is no champion to start from; use --from base, or 'thumbtune runs promote ID'")
        require_no_adapters(in_use)
        check_base(in_use)
        return in_use
    run = parse_run(settings.model)
    if run is None or run[1] != "base":
        return None
    with database.read() as session:
        return get_run(session, run[0])


def require_no_adapters(run: TrainingRun) -> None:
    """Refuse to continue from a run that trained LoRA adapters.

    Raises:
        RunUnusable: the run trained LoRA adapters.
    """
    if run.trained == "lora":
        raise RunUnusable(
            f"run {run.id} trained LoRA adapters, from which training can't continue; "
            "use --from base, or promote another run"
        )


def _absolute(name: str, option: str) -> str:
    """Make a folder's path absolute, so that the run can be loaded from any folder; return a hub name unchanged."""
    folder = model_folder(name, option)
    return name if folder is None else str(folder.absolute())


def names_to_train(facts: Facts, settings: TrainSettings) -> list[str]:
    """The names of the parameters to train; empty for LoRA, which adds its own parameters.

    Raises:
        BadSetting: the expression matches no parameter, or no layer.
    """
    names = [name for name, _ in facts.parameters]
    if settings.train == RIDGE:
        return [TEXT]
    if settings.train == CCA:
        return [VISUAL, TEXT]
    if settings.train != "lora":
        return chosen_names(names, settings.train)
    # Use peft's layer names: without the module's `0.model.` and the parameter's `.weight`.
    layers = [
        name.partition(".model.")[2].removesuffix(".weight")
        for name in names
        if ".model." in name and name.endswith(".weight")
    ]
    if not any(re.fullmatch(settings.lora_targets, layer) for layer in layers):
        raise BadSetting(
            f"--lora-targets {settings.lora_targets!r} matches no layer's whole name; "
            f"examples of names: {layers[0]}, {layers[len(layers) // 2]}, {layers[-1]}"
        )
    return []


def encode(
    database: Database,
    model: LazyModel,
    chosen: Selection,
    settings: TrainSettings,
    progress: Progress,
    *,
    in_memory: int = FEATURES_IN_MEMORY,
) -> Pooled:
    """Load the features of all selected examples, and encode those that are not cached.

    Args:
        database: the store.
        model: the model whose towers encode.
        chosen: the examples.
        settings: precision, crop mode and bars.
        progress: receives the phases.
        in_memory: the most bytes of features to hold in memory. More are written to files in the models' folder.
    """
    features = Features(database, model, settings.precision, settings.fit, settings.bars)
    digests = sorted({example.picture_sha256 for example in chosen.examples})
    titles = sorted({example.title for example in chosen.examples})
    projections, source = model.facts.projections, StoredPictures(database)
    in_files = 4 * (len(digests) * projections.visual.shape[1] + len(titles) * projections.text.shape[1]) > in_memory
    folder = models_dir(database)
    with progress.phase("Encoding thumbnails", len(digests)) as count:
        pictures = (
            features.to_file("vision", digests, source, count, folder=folder, budget=in_memory)
            if in_files
            else features.pictures(digests, source, count)
        )
    with progress.phase("Encoding titles", len(titles)) as count:
        texts = (
            features.to_file("text", titles, source, count, folder=folder, budget=in_memory)
            if in_files
            else features.titles(titles, count)
        )
    return Pooled(pictures, texts, positions_of(digests), positions_of(titles))


def mine(
    database: Database, model: LazyModel, chosen: Selection, settings: TrainSettings, progress: Progress
) -> tuple[list[ExampleRow], int]:
    """Choose the negatives and store the snapshot; return its rows and its id."""
    title_fingerprint: str | None = None
    embed: Callable[[Sequence[str]], Vectors] = _never
    if settings.compares_titles():
        titles = sorted({example.title for example in chosen.examples})
        with progress.phase("Comparing titles", len(titles)) as count:
            embed, title_fingerprint = _title_embedder(database, model, titles, settings, count)
    rows = mine_negatives(chosen, settings, embed)
    snapshot_id, _new = write_snapshot(database, chosen, rows, settings, title_fingerprint)
    return rows, snapshot_id


def _never(_titles: Sequence[str]) -> Vectors:
    raise AssertionError("only strategies that compare titles ask for vectors")


def _title_embedder(
    database: Database, model: LazyModel, titles: list[str], settings: TrainSettings, count: Callable[[int], None]
) -> tuple[Callable[[Sequence[str]], Vectors], str]:
    """Encode uncached titles; return a function from titles to vectors, and the title model's fingerprint."""
    if settings.title_model != "base":
        other = TitleModel(database, settings.title_model, model.device)
        embeddings = TitleFeatures(database, other)
        embeddings.fill(titles, count)
        return lambda some: embeddings.vectors(some, uncounted), other.fingerprint
    features = Features(database, model, settings.precision, settings.fit, settings.bars)
    features.fill_missing("text", titles, StoredPictures(database), count)
    embedder = CachedEmbedder(features, model.facts.projections)
    return lambda some: embedder.title_vectors(some, uncounted), model.facts.fingerprint
