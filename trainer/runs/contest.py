"""Compare a new model with the one in use on rows that neither was fitted on.

If the valid split has enough rows, both models are compared on it. On a smaller split, chance would decide. Then both
models are refitted on folds of the train and valid rows, using cached vectors, and each row is scored while it is held
out. An older run is refitted with its own settings on the pairs that it had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from store.db import Database
from store.tables import TrainingRun
from store.training import ExampleRow, base_of_run, get_run, load_examples, model_in_use
from trainer.data import Selection
from trainer.errors import ModelUnavailable, NoNetwork, RunUnusable, TrainerError
from trainer.fitting import Candidate, Learner, Pooled, ProjectionsLearner, WithReaderLearner, held_out_ranks, triplets
from trainer.models import Projections
from trainer.runs.learning import continues_from_champion, reopen_base, reopen_learner
from trainer.runs.measuring import After, Before
from trainer.runs.promotion import ENOUGH_VALID, Decision, decide, decide_all_known, decide_unmeasured
from trainer.runs.record import Run
from trainer.runs.recorded import embedder_of
from trainer.scoring import Rows, Scores, paired

__all__ = ["compare_with_model_in_use", "why_unusable"]

_DIRECTION = "thumbnail_to_title"


def compare_with_model_in_use(run: Run, learner: Learner, chosen: Selection, before: Before, after: After) -> Decision:
    """Decide whether a run's model replaces the one in use: the champion, or a base model.

    The base model in use is that of the first run. A later run may have another one.

    Args:
        run: the run.
        learner: the learner that it trained.
        chosen: the pairs of its snapshot.
        before: the champion, and the scores before training.
        after: the scores of the trained model.
    """
    in_use = before.in_use
    run_id = None if in_use is None else in_use.id
    base = None if in_use is not None else _other_base(run, chosen)
    base_of = None if base is None else base.run_id
    new = _valid_ranks(after.tuned)
    if base is not None:
        old = _valid_ranks(base.pooled.score(base.projections, [row for row in before.rows if row.split == "valid"]))
    else:
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
        found = _cross_validated(run, learner, chosen, in_use, base)
        if found is not None:
            return found
    if not new:
        return decide_unmeasured(run_id, None, None)
    if not counted and in_use is not None:
        return decide_all_known(in_use.id, len(new))
    ranks = [np.array([found[video] for video in counted]) for found in (old, new)]
    comparison = paired(ranks[0], ranks[1], [groups[video] for video in counted])
    return decide(run_id, "valid", comparison, len(new) - len(counted), base_of=base_of)


@dataclass(frozen=True)
class _Base:
    """The base model of a run, with the features of the pairs to compare on."""

    run_id: int
    projections: Projections
    pooled: Pooled


def _other_base(run: Run, chosen: Selection) -> _Base | None:
    """The base model in use, if there is no champion, and it is not the base model of the run."""
    with run.database.read() as session:
        found = model_in_use(session, run.settings.channels)
        held, own = (None if found is None else get_run(session, found[0])), get_run(session, run.id)
        if found is None or held is None or found[1] != "base" or base_of_run(held) == base_of_run(own):
            return None
    try:
        return _Base(held.id, *reopen_base(run.database, held, run.settings.device, chosen, run.progress))
    except TrainerError as error:
        run.warn(f"the base model in use, of run {held.id}, can't be compared with this run: {error}")
        return None


def why_unusable(database: Database, run_id: int, device: str) -> TrainerError | None:
    """The error that prevents loading a run's model, or None if it can be loaded."""
    try:
        embedder_of(database, run_id, device=device)
    except (ModelUnavailable, RunUnusable) as error:
        return error
    return None


def _cross_validated(
    run: Run, learner: Learner, chosen: Selection, in_use: TrainingRun | None, base: _Base | None
) -> Decision | None:
    """Decide on folds of the train and valid rows; None if one of the models can't be refitted on them."""
    if not isinstance(learner, ProjectionsLearner | WithReaderLearner) or continues_from_champion(run.settings):
        return None
    examples = [replace(row, split="train", negative_position=None) for row in chosen.examples if row.split != "test"]
    groups = [row.group_id for row in examples]
    if len(set(groups)) < 2:
        return None
    rows = triplets(examples, mined=False)
    incumbent: Candidate
    if base is not None:
        incumbent = Candidate(base.pooled.triplets(rows), base.projections)
    elif in_use is None:
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
    run_id, base_of = None if in_use is None else in_use.id, None if base is None else base.run_id
    return decide(run_id, "cross-validated", paired(old, new, groups), base_of=base_of)


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
