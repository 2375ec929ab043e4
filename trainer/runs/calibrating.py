"""Calibrate a model's scores on held-out rows of a snapshot, and store the result beside the model.

A run with projections that can be refitted is refitted without each of five folds of its snapshot's train and valid
rows. A base model has seen none of these rows. For other runs (whole models, adapters, very many rows), only the valid
rows are held out.

The test split is never used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from store.db import Database
from store.tables import TrainingRun
from store.training import (
    ExampleRow,
    ModelFacts,
    get_run,
    load_examples,
    newest_snapshot,
    read_known_model,
    snapshot_info,
    write_known_model,
)
from trainer.data import Selection, StoredPictures, normalised, numbers_of, positions_of
from trainer.errors import NotEnoughPairs
from trainer.fitting import (
    Candidate,
    Fitted,
    WithReader,
    as_reader,
    concurrently,
    inner_of,
    of_reader,
    one_thread,
    triplets,
    without_reader,
)
from trainer.models import Embedder, Vectors
from trainer.progress import Progress, Silent
from trainer.runs.in_use import InUse
from trainer.runs.learning import reopen_learner
from trainer.scoring import Calibration, Fold, HeldOutScores, Weights, calibrate, folds

__all__ = ["Calibrated", "calibration_of"]

LEAST_ROWS = 10
"""The minimum number of held-out thumbnails. With fewer, the interval of a proportion spans more than half."""
MOST_ROWS, MOST_TITLES = 500, 4000
"""The maximum numbers of thumbnails to score, and of titles to score each with. They suffice to fit a single number."""
MOST_REFITTED = 2000
"""The maximum number of rows to refit on without each fold. With more, the valid rows suffice, which were held out."""
# Increase this when the same rows give a different result.
_METHOD = 2


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and the models of its folds.

    Args:
        calibration: the scale, its error, and the scale of each fold.
        folds: the model fitted without each fold, in the order of the scales; empty if the model did not learn from the
            rows or can't be refitted on parts of them.
    """

    calibration: Calibration
    folds: tuple[Fitted, ...] = ()


def calibration_of(database: Database, used: InUse, progress: Progress | None = None) -> Calibrated:
    """Calibrate a model on the snapshot that it was trained on; without a run, on the newest snapshot.

    The result is stored in the store's cache, and read from there the next time.

    Args:
        database: the store.
        used: the model.
        progress: receives the thumbnails and titles that are not in the feature cache.

    Raises:
        NotEnoughPairs: there is no snapshot, or it has too few rows that the model was not trained on.
        TrainerError, StoreError: the rows can't be loaded or embedded.
    """
    with database.read() as session:
        run = None if used.run_id is None else get_run(session, used.run_id)
        snapshot_id = newest_snapshot(session) if run is None else run.snapshot_id
        if snapshot_id is None:
            raise NotEnoughPairs("there is no snapshot to calibrate on; run 'thumbtune train' first")
        key = _key(used, run, snapshot_info(session, snapshot_id).fingerprint)
        known = _read(read_known_model(session, key), used.embedder)
        if known is not None:
            return known
        rows = [row for row in load_examples(session, snapshot_id) if row.split != "test"]
    found = _calibrated(database, used, run, rows, progress or Silent())
    if not database.unwritable:
        with database.write() as session:
            write_known_model(session, key, _stored(found, used.embedder))
    return found


def _key(used: InUse, run: TrainingRun | None, snapshot: str) -> str:
    """A digest of everything that determines the result."""
    embedders = [inner_of(used.embedder)]
    if isinstance(used.embedder, WithReader):
        embedders.append(used.embedder.reader)
    # Two runs with other crop modes have equal tensors if training changed nothing.
    parts = [
        f"{each.model.facts.fingerprint} {each.crop_mode} {each.bars} {each.precision}"
        for each in (embedder.features for embedder in embedders)
    ]
    model = " ".join([*parts, str(run.artifact_sha256)] if run is not None and used.trained else parts)
    return hashlib.sha256(f"calibration {_METHOD} {model} {snapshot}".encode()).hexdigest()


def _calibrated(
    database: Database, used: InUse, run: TrainingRun | None, rows: Sequence[ExampleRow], progress: Progress
) -> Calibrated:
    groups = [row.group_id for row in rows]
    if run is not None and used.trained and len(rows) <= MOST_REFITTED:
        # On another device, the cached vectors would be computed again.
        device = inner_of(used.embedder).features.model.device
        learner = reopen_learner(database, run, device, Selection(list(rows), {}, ()), progress)
        if learner is not None:
            _require_enough(rows, range(len(rows)))
            as_train = [replace(row, split="train", negative_position=None) for row in rows]
            return _refitted(learner.candidate(triplets(as_train, mined=False)), rows, groups, progress)
    asked = [at for at, row in enumerate(rows) if row.split == "valid" or not used.trained]
    _require_enough(rows, asked)
    return Calibrated(calibrate(_score_held_out(database, used.embedder, rows, asked, progress)))


def _require_enough(rows: Sequence[ExampleRow], asked: Sequence[int]) -> None:
    if len(asked) < LEAST_ROWS or len({rows[at].group_id for at in asked}) < 2:
        raise NotEnoughPairs(
            f"only {len(asked)} of the snapshot's train and valid thumbnails were not used to train the model, and at "
            f"least {LEAST_ROWS} are needed to estimate probabilities; sync more videos"
        )


def _refitted(
    candidate: Candidate, rows: Sequence[ExampleRow], groups: Sequence[str], progress: Progress
) -> Calibrated:
    cut, labels = folds(groups), numbers_of([normalised(row.title) for row in rows])

    def of_fold(fold: Fold) -> tuple[Fitted, HeldOutScores]:
        fitted = candidate.fitted(groups, fold.fit)
        pictures, titles = candidate.vectors(fitted)
        asked = _some(fold.held_out, MOST_ROWS // len(cut))
        columns = _columns(labels, asked)
        return fitted, _scores(labels, pictures[asked], titles[columns], asked, columns)

    with progress.phase("Calibrating on held-out folds"), one_thread():
        found = concurrently(of_fold, cut)
    return Calibrated(calibrate([scores for _, scores in found]), tuple(fitted for fitted, _ in found))


def _score_held_out(
    database: Database, embedder: Embedder, rows: Sequence[ExampleRow], asked: Sequence[int], progress: Progress
) -> list[HeldOutScores]:
    """Score held-out rows in folds. The model has seen none of them, so each fold uses the same model."""
    chosen = _some(np.array(asked, dtype=np.intp), MOST_ROWS)
    cut = [chosen[fold.held_out] for fold in folds([rows[at].group_id for at in chosen])]
    labels = numbers_of([normalised(row.title) for row in rows])
    columns = [_columns(labels, held_out) for held_out in cut]
    needed = np.unique(np.concatenate(columns))
    titles = sorted({rows[at].title for at in needed})
    digests = sorted({rows[at].picture_sha256 for at in chosen})
    with progress.phase("Calibrating on held-out rows", len(digests) + len(titles)) as count:
        picture_vectors = embedder.picture_vectors(digests, StoredPictures(database), count)
        title_vectors = embedder.title_vectors(titles, count)
    picture_at, title_at = positions_of(digests), positions_of(titles)
    return [
        _scores(
            labels,
            picture_vectors[[picture_at[rows[at].picture_sha256] for at in held_out]],
            title_vectors[[title_at[rows[at].title] for at in of_fold]],
            held_out,
            of_fold,
        )
        for held_out, of_fold in zip(cut, columns, strict=True)
    ]


def _some(rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    return rows if len(rows) <= most else np.sort(np.random.default_rng(0).permutation(rows)[:most])


def _columns(labels: NDArray[np.intp], asked: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rows whose titles some thumbnails are compared with: at most `MOST_TITLES`, and the thumbnails' own.

    Each distinct title counts once, as it does among the titles that an idea is compared with.
    """
    _, once = np.unique(labels, return_index=True)
    return np.concatenate([_some(once, MOST_TITLES), asked])


def _scores(
    labels: NDArray[np.intp],
    pictures: Vectors,
    titles: Vectors,
    asked: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> HeldOutScores:
    """Cosines of the thumbnails of the rows `asked` (m, d) with the titles of the rows `columns` (n, d)."""
    others = len(columns) - len(asked)
    cosines = (pictures @ titles.T).astype(np.float64)
    rivals = labels[asked][:, None] != labels[columns][None, :]
    # The last columns are the rows' own titles. Each is only compared with its own row, so it is not a rival.
    rivals[:, others:] = False
    return HeldOutScores(cosines, others + np.arange(len(asked)), rivals)


def _stored(found: Calibrated, embedder: Embedder) -> ModelFacts:
    """The cache entry. It contains only the folds' projections that differ from the model's own."""
    own = _tensors(_own(embedder))
    tensors = {
        # Folds that training did not change share their tensors, which safetensors refuses to write.
        f"{number} {name}": tensor.contiguous().clone()
        for number, fitted in enumerate(found.folds)
        for name, tensor in _tensors(fitted).items()
        if not tensor.equal(own[name])
    }
    facts = {
        "calibration": asdict(found.calibration),
        "weights": [None if fitted.weights is None else asdict(fitted.weights) for fitted in found.folds],
    }
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()
    return ModelFacts(digest, facts, save(tensors) if tensors else None)


def _read(row: ModelFacts | None, embedder: Embedder) -> Calibrated | None:
    """Decode the result of `_stored`; None if there is no result, or its version differs."""
    if row is None:
        return None
    own = _own(embedder)
    try:
        known = row.facts["calibration"]
        calibration = Calibration(known["scale"], known["error"], known["n"], tuple(known["scales"]))
        tensors = {} if row.projections is None else load(row.projections)
        folds_ = [_fitted(own, tensors, number, weights) for number, weights in enumerate(row.facts["weights"])]
    except (KeyError, TypeError, SafetensorError):
        return None
    kept = tuple(fold for fold in folds_ if fold is not None)
    return Calibrated(calibration, kept) if len(kept) == len(folds_) else None


def _fitted(own: Fitted, tensors: Mapping[str, Tensor], number: int, weights: dict[str, float] | None) -> Fitted | None:
    mine = {name.partition(" ")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{number} ")}
    projections = own.projections.with_tensors(without_reader(mine))
    reader = None if own.reader is None else own.reader.with_tensors(of_reader(mine))
    if projections is None or (reader is None) != (own.reader is None):
        return None
    return Fitted(projections, None if weights is None else Weights(**weights), reader)


def _own(embedder: Embedder) -> Fitted:
    """The model's own projections, and those of its reader."""
    reader = embedder.reader.projections if isinstance(embedder, WithReader) else None
    return Fitted(inner_of(embedder).projections, None, reader)


def _tensors(fitted: Fitted) -> dict[str, Tensor]:
    return {**fitted.projections.tensors(), **as_reader({} if fitted.reader is None else fitted.reader.tensors())}
