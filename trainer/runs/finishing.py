"""The steps of a run after training: save the tensors, record the scores, decide, end the run, write the model."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from store.training import add_evaluations, add_ranks, add_steps, end_run, replace_champion, update_run
from store.wording import counted
from trainer.artifacts import models_dir, save_tensors, save_whole_model
from trainer.data import Selection
from trainer.errors import CantSave, TrainingInterrupted, is_interrupt
from trainer.fitting import Learner, Step
from trainer.runs.contest import compare_with_model_in_use
from trainer.runs.learning import continues_from_champion
from trainer.runs.measuring import After, Before, warn_if_worse
from trainer.runs.promotion import Decision, by_hand
from trainer.runs.record import Run, ran_out_of_memory

__all__ = ["Trained", "decide", "end", "record_scores", "save", "write_whole"]


@dataclass(frozen=True)
class Trained:
    """A trained model, in memory.

    Args:
        learner: the learner, after training.
        steps: the steps of the training.
    """

    learner: Learner
    steps: list[Step]


def save(run: Run, trained: Trained) -> Path:
    """Write the trained tensors and the steps of the training; return the tensors' file."""
    # Stores that share a folder may use the same run ids: the token keeps them from replacing each other's files.
    path = models_dir(run.database) / f"run-{run.id}-{secrets.token_hex(4)}.safetensors"
    with run.timed("save"):
        digest = save_tensors(trained.learner.tensors(), path)
        run.note(artifact_path=str(path), artifact_sha256=digest)
    run.database.transact(lambda session: add_steps(session, run.id, (asdict(step) for step in trained.steps)))
    return path


def record_scores(run: Run, before: Before, after: After) -> None:
    """Write the scores and ranks of all models, and the champion that the run was compared with."""
    scored = {"base": before.base, "tuned": after.tuned}
    if before.champion is not None:
        scored["champion"] = before.champion

    def write(session: Session) -> None:
        for model, scores in scored.items():
            add_evaluations(session, run.id, scores.rows(model))
            add_ranks(session, run.id, ({"model": model, **row} for row in scores.rank_rows()))

    run.database.transact(write)
    if before.in_use is not None and (before.champion is not None or continues_from_champion(run.settings)):
        run.note(champion_run_id=before.in_use.id)


def decide(run: Run, learner: Learner, chosen: Selection, before: Before, after: After) -> Decision:
    """Compare the trained model with the champion; without a champion, with the base model."""
    with run.timed("compare"):
        decision = compare_with_model_in_use(run, learner, chosen, before, after)
    current = before.current
    if current is None or set(current.scope) == set(run.settings.channels):
        return decision
    wider = "all channels" if not current.scope else counted(len(current.scope), "channel")
    return by_hand(decision, f"run {current.run.id} is in use for {wider}, and this run is for fewer channels")


def end(run: Run, before: Before, after: After, decision: Decision | None) -> bool:
    """End the run, and in the same transaction put its model into use if the decision says so.

    Returns:
        Whether its model came into use.
    """
    if decision is None or not decision.promote:
        # A small valid split says less than the folds that found the model better.
        warn_if_worse(run, before.base, after.tuned)
    in_use = before.in_use

    def write(session: Session) -> bool:
        reason = None if decision is None else decision.reason
        end_run(session, run.id, "done", phase_seconds=run.seconds, decision=reason)
        if decision is None or not decision.promote:
            return False
        promoted = replace_champion(session, run.id, None if in_use is None else in_use.id, decision.reason)
        if not promoted:  # another run was promoted in the meantime and was not compared with this run
            update_run(session, run.id, decision=None)
        return promoted

    return run.database.transact(write)


def write_whole(run: Run, learner: Learner, output: Path) -> None:
    """Write the whole model of a run that is done.

    Raises:
        CantSave: it can't be loaded or written; the message says that the run is done, and how to write the model
            later.
        TrainingInterrupted: a KeyboardInterrupt arrived; the message says the same.
    """
    from trainer.runs.cards import model_card  # noqa: PLC0415 (the hub's library)

    done, later = f"run {run.id} is done", f"run 'thumbtune export model {shlex.quote(str(output))} --run {run.id}'"
    try:
        with run.timed("save"):
            save_whole_model(learner.whole_model(), output, model_card(run.database, run.id))
    except BaseException as error:
        if is_interrupt(error):
            raise TrainingInterrupted(
                f"{done}, but was interrupted while its model was being written; {later}"
            ) from error
        if not isinstance(error, Exception):
            raise
        # For every error, the message must say that the run is done.
        raise CantSave(f"{done}, but its model can't be written to {output} ({_reason(error)}); {later}") from error


def _reason(error: BaseException) -> str:
    if ran_out_of_memory(error):
        return "out of memory"
    # For CantSave, quote the system's error: the advice in our message is for a run that is not done yet.
    cause = error.__cause__ or error if isinstance(error, CantSave) else error
    return " ".join(str(cause).split()) or type(cause).__name__
