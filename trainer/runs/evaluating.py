"""Scores a model again: a run's model on the run's own snapshot, or any other model on the newest snapshot."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from store.db import Database
from store.training import (
    ExampleRow,
    add_test_look,
    evaluations,
    get_run,
    load_examples,
    newest_done_run,
    newest_snapshot,
    snapshot_info,
)
from trainer.data import StoredPictures, current_snapshot
from trainer.errors import RunUnusable
from trainer.models import Embedder
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.runs.recorded import embedder_of, model_embedder, named_model
from trainer.scoring import Scores, parse_run, score_examples

__all__ = ["Evaluated", "evaluate"]


@dataclass(frozen=True)
class Evaluated:
    """The scores of a model on a snapshot.

    Args:
        name: `run N`, `run N, base`, or the model's name.
        run_id: the run that the model belongs to, or None.
        snapshot_id: the snapshot.
        rows: {split: number of scored rows}.
        channels: ids of the snapshot's channels; empty for all.
        scores: the scores.
        matches: whether the scores equal those that the run recorded, on the splits that both scored; None without a
            run.
        test_looks: how often models were scored on the test split in this store, including this time; None if the test
            split was not scored.
    """

    name: str
    run_id: int | None
    snapshot_id: int
    rows: dict[str, int]
    channels: tuple[str, ...]
    scores: Scores
    matches: bool | None
    test_looks: int | None


def evaluate(
    database: Database,
    what: str | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    *,
    test: bool = False,
) -> Evaluated:
    """Score a run's model on its own snapshot, or any other model on the newest snapshot of all channels.

    Writes only the feature cache, the count of looks at the test split, and a snapshot if none has all channels.

    Args:
        database: the store.
        what: `N`, `N:base`, a folder or a hub name; None for the newest finished run.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: receives each thumbnail and title.
        test: also score on the test split, which the store counts.

    Raises:
        NotFound, RunUnusable, ModelUnavailable: see `load_run_model`.
        BadSetting: see `named_model`.
        NotEnoughPairs: there are no pairs.
    """
    progress = progress or Silent()
    which = parse_run(what) if what is not None else _newest(database)
    with quiet_libraries():
        embedder: Embedder
        snapshot_id, examples = _examples(database, which[0] if which else None, progress)
        if which is None:
            embedder = model_embedder(database, named_model(database, str(what), device))
        else:
            embedder = embedder_of(database, *which, device=device)
        examples = [row for row in examples if test or row.split != "test"]
        name = str(what) if which is None else f"run {which[0]}" + (", base" if which[1] == "base" else "")
        shown = "the model" if Path(name).is_absolute() else name
        scores = score_examples(embedder, examples, StoredPictures(database), progress, shown)
    matches = None if which is None else _equals_recorded(database, *which, scores)
    with database.read() as session:
        channels = tuple(snapshot_info(session, snapshot_id).settings.get("channels") or ())
    looks = None
    if "test" in scores.table():
        with database.write() as session:
            looks = add_test_look(session, which[1] if which else name, snapshot_id, which[0] if which else None)
    counts = dict(Counter(row.split for row in examples))
    return Evaluated(name, which[0] if which else None, snapshot_id, counts, channels, scores, matches, looks)


def _newest(database: Database) -> tuple[int, str]:
    with database.read() as session:
        run = newest_done_run(session)
    if run is None:
        raise RunUnusable("there are no finished runs; run 'thumbtune train' first, or use --model")
    return run.id, "tuned"


def _examples(database: Database, run_id: int | None, progress: Progress) -> tuple[int, list[ExampleRow]]:
    with database.read() as session:
        snapshot_id = _of_all_channels(session) if run_id is None else get_run(session, run_id).snapshot_id
    if snapshot_id is None:
        if run_id is not None:
            raise RunUnusable(f"run {run_id} has no snapshot; use another run")
        snapshot_id = current_snapshot(database, (), progress)
    with database.read() as session:
        return snapshot_id, load_examples(session, snapshot_id)


def _of_all_channels(session: Session) -> int | None:
    found = newest_snapshot(session, all_channels=True)
    return None if found is None or snapshot_info(session, found).settings.get("channels") else found


def _equals_recorded(database: Database, run_id: int, model: str, scores: Scores) -> bool:
    with database.read() as session:
        rows = evaluations(session, run_id)
    recorded = {(row.scope, row.split, row.direction, row.metric): row.value for row in rows if row.model == model}
    found = {
        (score.scope, score.split, score.direction, score.metric.name): score.metric.value for score in scores.scores
    }
    both = {split for _, split, _, _ in recorded} & {split for _, split, _, _ in found}
    kept, anew = ({at: value for at, value in of.items() if at[1] in both} for of in (recorded, found))
    return kept == anew
