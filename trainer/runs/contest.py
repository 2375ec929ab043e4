"""Compare a new model with the one in use on rows that neither was fitted on.

If the valid split has enough rows, both models are compared on it. On a smaller split, chance would decide. Then both
models are refitted on folds of the train and valid rows, using cached vectors, and each row is scored while it is held
out. An older run is refitted with its own settings on the pairs that it had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from store.db import Database
from store.tables import TrainingRun
from store.training import ExampleRow, load_examples
from trainer.data import Selection
from trainer.errors import ModelUnavailable, NoNetwork, RunUnusable, TrainerError
from trainer.fitting import Candidate, Learner, ProjectionsLearner, WithReaderLearner, held_out_ranks, triplets
from trainer.runs.learning import continues_from_champion, reopen_learner
from trainer.runs.measuring import After, Before
from trainer.runs.promotion import ENOUGH_VALID, Decision, decide, decide_all_known, decide_unmeasured
from trainer.runs.record import Run
from trainer.runs.recorded import embedder_of
from trainer.scoring import Rows, Scores, paired

__all__ = ["compare_with_model_in_use", "why_unusable"]

_DIRECTION = "thumbnail_to_title"


def compare_with_model_in_use(run: Run, learner: Learner, chosen: Selection, before: Before, after: After) -> Decision:
    """Decide whether a run's model replaces the one in use: the champion, or the run's base model.

    Args:
        run: the run.
        learner: the learner that it trained.
        chosen: the pairs of its snapshot.
        before: the champion, and the scores before training.
        after: the scores of the trained model.
    """
    in_use = before.in_use
    run_id = None if in_use is None else in_use.id
    new = _valid_ranks(after.tuned)
    old = _valid_ranks(before.base if in_use is None else before.champion)
    counted = sorted(new.keys() & old.keys() - set(before.known))
    groups = {row.video_id: row.group_id for row in before.rows}
    if in_use is not None and before.champion is None:
        error = why_unusable(run.database, in_use.id, run.settings.device)
        # A missing network is temporary: only a champion whose files are lost gets the reason.
        lost = error is not None and not isinstance(error, NoNetwork)
        # Without held-out rows, the champion could not be scored, and folds can still decide.
        if new or error is not None:
            return decide_unmeasured(run_id, _recall(new) if new else None, str(error) if lost else None)
    if len(counted) < ENOUGH_VALID:
        found = _cross_validated(run, learner, chosen, in_use)
        if found is not None:
            return found
    if not new:
        return decide_unmeasured(run_id, None, None)
    if not counted and in_use is not None:
        return decide_all_known(in_use.id, len(new))
    ranks = [np.array([found[video] for video in counted]) for found in (old, new)]
    comparison = paired(ranks[0], ranks[1], [groups[video] for video in counted])
    return decide(run_id, "valid", comparison, len(new) - len(counted))


def why_unusable(database: Database, run_id: int, device: str) -> TrainerError | None:
    """The error that prevents loading a run's model, or None if it can be loaded."""
    try:
        embedder_of(database, run_id, device=device)
    except (ModelUnavailable, RunUnusable) as error:
        return error
    return None


def _cross_validated(run: Run, learner: Learner, chosen: Selection, in_use: TrainingRun | None) -> Decision | None:
    """Decide on folds of the train and valid rows; None if one of the models can't be refitted on them."""
    if not isinstance(learner, ProjectionsLearner | WithReaderLearner) or continues_from_champion(run.settings):
        return None
    examples = [replace(row, split="train", negative_position=None) for row in chosen.examples if row.split != "test"]
    groups = [row.group_id for row in examples]
    if len(set(groups)) < 2:
        return None
    rows = triplets(examples, mined=False)
    incumbent: Candidate
    if in_use is None:
        incumbent = learner.base_candidate(rows)
    else:
        try:
            again = reopen_learner(run.database, in_use, run.settings.device, chosen, run.progress)
        except TrainerError:
            return None  # the base model can't be loaded; the champion was scored on cached vectors
        if again is None:
            return None
        incumbent = again.candidate(rows, _rows_also_in(run.database, in_use, examples))
    with run.progress.phase("Comparing on held-out folds"):
        old, new = (held_out_ranks(candidate, groups) for candidate in (incumbent, learner.candidate(rows)))
    return decide(None if in_use is None else in_use.id, "cross-validated", paired(old, new, groups))


def _rows_also_in(database: Database, recorded: TrainingRun, examples: Sequence[ExampleRow]) -> Rows:
    """The indices of the examples that a recorded run also had, unchanged."""
    if recorded.snapshot_id is None:
        return np.arange(0)
    with database.read() as session:
        had = {
            (row.video_id, row.title, row.picture_sha256)
            for row in load_examples(session, recorded.snapshot_id)
            if row.split != "test"
        }
    shown = [(row.video_id, row.title, row.picture_sha256) for row in examples]
    return np.array([number for number, row in enumerate(shown) if row in had], dtype=np.intp)


def _valid_ranks(scores: Scores | None) -> Mapping[str, int]:
    return {} if scores is None else scores.ranks("valid", _DIRECTION)


def _recall(ranks: Mapping[str, int]) -> float:
    return sum(rank == 1 for rank in ranks.values()) / len(ranks)
