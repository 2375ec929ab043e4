"""Measures models before and after training: the base model, the champion, the trained model and the reader."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from store.db import Database
from store.tables import TrainingRun
from store.training import Champion, ExampleRow, add_test_look, get_run, trained_pairs
from trainer.data import StoredPictures, normalised
from trainer.errors import TrainerError
from trainer.fitting import Learner, WithReaderLearner
from trainer.models import LazyModel
from trainer.runs.learning import continues_from_champion
from trainer.runs.preparing import Prepared
from trainer.runs.promotion import ENOUGH_VALID
from trainer.runs.record import Run
from trainer.runs.recorded import embedder_of
from trainer.scoring import Scores, require_apart, score_examples

__all__ = ["After", "Before", "measure_after", "measure_before", "warn_if_worse"]


@dataclass(frozen=True)
class Before:
    """The state before training.

    Args:
        rows: the examples to score; test examples only if requested.
        base: the base model's scores.
        current: the champion for the run's channels, or None.
        champion: the champion's scores on the held-out rows; None if there is no champion, or it can't be scored.
        known: ids of held-out videos that the champion was trained on.
    """

    rows: list[ExampleRow]
    base: Scores
    current: Champion | None
    champion: Scores | None
    known: frozenset[str]

    @property
    def in_use(self) -> TrainingRun | None:
        """The champion's run."""
        return None if self.current is None else self.current.run


@dataclass(frozen=True)
class After:
    """The results of training.

    Args:
        tuned: the scores of the trained model.
        reader: the scores of the reader alone, or None if it is not used.
        test_looks: how often models were scored on the test split in this store; None if this run was not scored on it.
    """

    tuned: Scores
    reader: Scores | None
    test_looks: int | None


def measure_before(run: Run, model: LazyModel, prepared: Prepared, current: Champion | None, *, test: bool) -> Before:
    """Score the base model and the champion."""
    in_use = None if current is None else current.run
    with run.timed("evaluate"):
        rows = [row for row in prepared.rows if test or row.split != "test"]
        base = prepared.pooled.score(model.facts.projections, rows)
        beside = _score_champion(run, in_use, rows)
        return Before(rows, base, current, beside, _known_to_champion(run, in_use, rows))


def measure_after(run: Run, learner: Learner, prepared: Prepared, before: Before) -> After:
    """Score the trained model, and count a look at the test split."""
    with run.timed("evaluate"):
        tuned = learner.score(before.rows, run.progress)
        require_apart(before.base, tuned)
        reader = learner.score_reader(before.rows) if isinstance(learner, WithReaderLearner) else None
    return After(tuned, reader, _count_look(run, prepared.snapshot_id, tuned))


def warn_if_worse(run: Run, base: Scores, tuned: Scores) -> None:
    """Warn if the trained model is worse on the valid split than the base model."""
    before, after = (scores.table().get("valid", {}).get("recall@1") for scores in (base, tuned))
    if before is None or after is None or after >= before:
        return
    n = len(tuned.ranks("valid", "thumbnail_to_title"))
    what = f"valid recall@1 decreased from {before:.3f} (base model) to {after:.3f} on {n} pairs"
    if n < ENOUGH_VALID:
        run.warn(f"{what}; with less than {ENOUGH_VALID} pairs, this may be chance")
    else:
        run.warn(
            f"{what}: training with these settings did not help on held-out videos; 'thumbtune sweep' searches for "
            "better settings"
        )


def _score_champion(run: Run, in_use: TrainingRun | None, rows: Sequence[ExampleRow]) -> Scores | None:
    """Score the champion on the held-out rows, on which the new model is scored too."""
    if in_use is None:
        return None
    held_out = [row for row in rows if row.split != "train"]
    if not held_out:
        return None
    try:
        embedder = embedder_of(run.database, in_use.id, device=run.settings.device)
        source = StoredPictures(run.database)
        return score_examples(embedder, held_out, source, run.progress, f"the champion, run {in_use.id}")
    except TrainerError as error:
        run.warn(f"the champion, run {in_use.id}, can't be scored: {error}")
        return None


def _known_to_champion(run: Run, in_use: TrainingRun | None, rows: Sequence[ExampleRow]) -> frozenset[str]:
    """Find the held-out videos that the champion, or a run that continues from it, was trained on; warn about them."""
    if in_use is None:
        return frozenset()
    known = contaminated(run.database, in_use.id, rows)
    if known:
        whose = (
            "its metrics and those of this run, which continues from it,"
            if continues_from_champion(run.settings)
            else "its metrics"
        )
        run.warn(
            f"the champion, run {in_use.id}, was trained on the title or thumbnail of {len(known)} of the "
            f"{sum(row.split != 'train' for row in rows)} held-out pairs, which another video had before: {whose} are "
            "too high"
        )
    return known


def _count_look(run: Run, snapshot_id: int, tuned: Scores) -> int | None:
    """Count a look at the test split; return the total, or None if this run was not scored on the test split."""
    if "test" not in tuned.table():
        return None
    return run.database.transact(lambda session: add_test_look(session, "tuned", snapshot_id, run.id))


def contaminated(database: Database, run_id: int, rows: Sequence[ExampleRow]) -> frozenset[str]:
    """Find the held-out videos that show a title or a thumbnail that a run's model was trained on.

    Titles are normalised before the comparison, as they are for groups. The training pairs of the runs that the run
    continued from count too.

    Args:
        database: the store.
        run_id: the run.
        rows: a snapshot's examples.

    Returns:
        The ids of the videos.
    """
    held_out = [row for row in rows if row.split != "train"]
    titles = dict.fromkeys((normalised(row.title) for row in held_out), False)
    pictures = dict.fromkeys((row.picture_sha256 for row in held_out), False)
    with database.read() as session:
        # Only what is held out is kept in memory: runs may have been trained on many more pairs.
        for title, picture in _trained_on(session, run_id):
            if picture in pictures:
                pictures[picture] = True
            if (plain := normalised(title)) in titles:
                titles[plain] = True
    return frozenset(row.video_id for row in held_out if pictures[row.picture_sha256] or titles[normalised(row.title)])


def _trained_on(session: Session, run_id: int) -> Iterable[tuple[str, str]]:
    """The (title, thumbnail digest) pairs that a run, and the runs it continued from, were trained on."""
    followed: int | None = run_id
    while followed is not None:
        run = get_run(session, followed)
        if run.snapshot_id is not None:
            yield from trained_pairs(session, run.snapshot_id)
        # This ends, because the champion of a run is always an earlier run.
        followed = run.champion_run_id if run.settings.get("start") == "champion" else None
