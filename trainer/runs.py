"""One training run from start to end: snapshot, mine, fit, evaluate, save, recorded under one id throughout."""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import set_seed

from store.database import Database
from store.errors import StoreError
from store.runs import (
    add_evaluations,
    add_ranks,
    add_steps,
    end_run,
    mark_interrupted,
    start_run,
    update_run,
)
from store.snapshots import ExampleRow
from trainer import snapshot
from trainer.artifacts import check_empty, models_dir, save_tensors, save_whole_model
from trainer.encoder import Encoder, Vectors, fingerprint, load_encoder, pick_device, title_vectors
from trainer.errors import TrainerError, TrainingInterrupted
from trainer.fit import Step, Triplets, choose_parameters, fit_full_model
from trainer.loading import load_model
from trainer.model_card import model_card
from trainer.pictures import StoredPictures
from trainer.progress import Progress, Silent
from trainer.provenance import git_commit, host, package_versions, process_is_alive
from trainer.quiet import quiet_libraries
from trainer.recorded import resolve_model
from trainer.scoring import Scores, score_examples
from trainer.settings import TrainSettings

__all__ = ["TrainResult", "train"]

logger = logging.getLogger(__name__)

# Random state is the process's, and a run marks this process's earlier ones as ended: one run at a time.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class TrainResult:
    """What a finished run found.

    Args:
        run_id, snapshot_id: rows of the store.
        model_path: the whole model's folder with `output`, else the file of trained tensors.
        total, trainable: parameter counts.
        examples: {split: rows}.
        base, tuned: the scores before and after.
        seconds: {phase: wall-clock seconds}.
        warnings: what the run could not do, in words.
    """

    run_id: int
    snapshot_id: int
    model_path: Path
    total: int
    trainable: int
    examples: dict[str, int]
    base: Scores
    tuned: Scores
    seconds: dict[str, float]
    warnings: list[str]


@dataclass
class _Run:
    """What one run carries from phase to phase."""

    database: Database
    settings: TrainSettings
    output: Path | None
    progress: Progress
    id: int
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def note(self, **columns: Any) -> None:
        with self.database.write() as session:
            update_run(session, self.id, **columns)


def train(
    database: Database,
    settings: TrainSettings,
    *,
    output: Path | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Fine-tune a model on the store's pairs and record everything about it.

    The run's row is there from the start, and ends `done`, `failed` (with the error) or `interrupted`. Runs that a
    dead process of this machine left `running` are marked first. The trained tensors go to `models_dir(database)`.

    Args:
        database: the store, writable.
        settings: what to do.
        output: also write the whole model to this new or empty folder.
        progress: told of what goes on.

    Raises:
        TrainerError: see `trainer.errors`; the run has ended `failed`.
        TrainingInterrupted: KeyboardInterrupt came; the run has ended `interrupted`.
        StoreError: the store failed.
    """
    device = pick_device(settings.device)
    if output is not None:
        check_empty(output)
    settings = replace(settings, model=_named(resolve_model(database, settings.model)))
    with _ONE_AT_A_TIME, quiet_libraries():
        with database.write() as session:
            for stale in mark_interrupted(session, host(), process_is_alive):
                logger.warning("run %d was never ended: marked interrupted", stale)
            run_id = start_run(session, **_known_at_start(settings, device, output))
        run = _Run(database, settings, output, progress or Silent(), run_id)
        with _recorded(run):
            return _train(run, device)


def _named(model: str) -> str:
    """A folder by its absolute path, so that the run can be loaded from anywhere; a hub name as it is."""
    folder = Path(model).expanduser()
    return str(folder.absolute()) if folder.is_dir() else model


def _known_at_start(settings: TrainSettings, device: str, output: Path | None) -> dict[str, Any]:
    return {
        "base_model": settings.model,
        "trained": settings.train,
        "seed": settings.seed,
        "settings": settings.as_dict(),
        "packages": package_versions(),
        "device": device,
        "git_commit": git_commit(),
        "output_path": None if output is None else str(output.absolute()),
        "host": host(),
        "pid": os.getpid(),
    }


@contextmanager
def _recorded(run: _Run) -> Iterator[None]:
    """End the run's row as the block ends."""
    try:
        yield
    except KeyboardInterrupt as error:
        _end(run, "interrupted", "stopped by a signal")
        raise TrainingInterrupted(
            f"run {run.id} was interrupted and is recorded so; run the command again to train anew"
        ) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        _end(run, "failed", "out of memory")
        raise TrainerError(
            f"run {run.id} ran out of memory; use a smaller --batch-size, or another --device"
        ) from error
    except BaseException as error:
        # Recorded whatever it is, and raised on: a bug must not leave a row that reads `running`.
        _end(run, "failed", " ".join(str(error).split()) or type(error).__name__)
        raise


def _end(run: _Run, status: str, error: str | None) -> None:
    try:
        with run.database.write() as session:
            end_run(session, run.id, status, error=error, phase_seconds=run.seconds)
    except StoreError:
        # What stopped the run may be the store itself; that error is the one to tell of.
        logger.warning("run %d could not be marked %s", run.id, status, exc_info=True)


def _train(run: _Run, device: str) -> TrainResult:
    settings, source = run.settings, StoredPictures(run.database)
    with run.timed("snapshot"):
        chosen = snapshot.select(run.database, settings.channels)
        for text in snapshot.require_trainable(chosen):
            run.warnings.append(text)
            run.progress.warn(text)
    with run.timed("load"), run.progress.phase(f"Loading {settings.model}"):
        set_seed(settings.seed)
        encoder = load_encoder(settings.model, device)
        names = choose_parameters(encoder.model, settings.train)
    total, trainable = _parameters(encoder)
    run.note(base_fingerprint=encoder.fingerprint, parameters_total=total, parameters_trainable=trainable)
    with run.timed("mine"):
        rows, snapshot_id = _mined(run, chosen, encoder)
    with run.timed("evaluate"):
        base = score_examples(encoder, rows, source, run.progress, "the base model")
    with run.timed("fit"):
        _fit(run, encoder, rows, source)
    with run.timed("evaluate"):
        tuned = score_examples(encoder, rows, source, run.progress, "the tuned model")
    with run.database.write() as session:
        for model, scores in (("base", base), ("tuned", tuned)):
            add_evaluations(session, run.id, scores.rows(model))
            add_ranks(session, run.id, [{"model": model, **row} for row in scores.ranks])
    path = _save(run, encoder, names)
    with run.database.write() as session:
        end_run(session, run.id, "done", phase_seconds=run.seconds)
    return TrainResult(
        run.id,
        snapshot_id,
        path,
        total,
        trainable,
        chosen.counts(),
        base,
        tuned,
        dict(run.seconds),
        run.warnings,
    )


def _parameters(encoder: Encoder) -> tuple[int, int]:
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in encoder.model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def _mined(run: _Run, chosen: snapshot.Selection, encoder: Encoder) -> tuple[list[ExampleRow], int]:
    settings = run.settings
    compares = settings.negatives in ("least-similar", "hard")
    title_fingerprint: str | None = None
    vectors: dict[str, Vectors] = {}
    if compares:
        titles = sorted({example.title for example in chosen.examples})
        with run.progress.phase("Comparing titles", len(titles)) as count:
            if settings.title_model == "base":
                found, title_fingerprint = encoder.title_vectors(titles, count), encoder.fingerprint
            else:
                model = load_model(settings.title_model, encoder.device, option="--title-model")
                found, title_fingerprint = title_vectors(model, titles, count), fingerprint(model)
                del model
        vectors = dict(zip(titles, found, strict=True))

    def embed(titles: Sequence[str]) -> Vectors:
        return np.stack([vectors[title] for title in titles])

    rows = snapshot.mine(chosen, settings, embed)
    snapshot_id, _new = snapshot.save(run.database, chosen, rows, settings, title_fingerprint)
    run.note(snapshot_id=snapshot_id)
    return rows, snapshot_id


def _fit(run: _Run, encoder: Encoder, rows: Sequence[ExampleRow], source: StoredPictures) -> None:
    train_rows = [row for row in rows if row.split == "train"]
    titles: dict[int | None, str] = {row.position: row.title for row in train_rows}
    # All rows have a negative, or none: two groups are required, and each is the other's.
    mined = run.settings.negatives != "none"
    triplets = Triplets(
        [row.picture_sha256 for row in train_rows],
        [row.title for row in train_rows],
        [titles[row.negative_position] for row in train_rows] if mined else None,
    )
    batches = -(-len(train_rows) // run.settings.batch_size)
    steps: list[Step] = []
    with run.progress.phase("Training", batches * run.settings.epochs) as count:

        def on_step(step: Step) -> None:
            if not math.isfinite(step.loss):
                raise TrainerError(f"the loss became {step.loss} at step {step.step}; use a smaller --lr")
            steps.append(step)
            count(1)

        fit_full_model(encoder, triplets, source, run.settings, on_step)
    recorded = [
        {"step": step.step, "epoch": step.epoch, "loss": step.loss, "learning_rate": step.learning_rate}
        for step in steps
    ]
    with run.database.write() as session:
        add_steps(session, run.id, recorded)


def _save(run: _Run, encoder: Encoder, names: Sequence[str]) -> Path:
    # Stores that share a folder count their runs alike: the token keeps one from replacing another's file.
    path = models_dir(run.database) / f"run-{run.id}-{secrets.token_hex(4)}.safetensors"
    with run.timed("save"):
        digest = save_tensors(encoder.model, names, path)
        run.note(artifact_path=str(path), artifact_sha256=digest)
        if run.output is None:
            return path
        save_whole_model(encoder.model, run.output, model_card(run.database, run.id))
        return run.output
