"""Allow one run at a time on a store for scheduled commands: a second run would train on the same pairs again."""

from __future__ import annotations

from sqlalchemy.orm import Session

from store.tables import TrainingRun
from store.training import lives_here, run_at_work
from trainer.errors import AlreadyTraining

__all__ = ["already_training", "run_here"]


def run_here(session: Session) -> TrainingRun | None:
    """The run that another local process is training on this store, or None. Other machines are not checked."""
    return run_at_work(session, lives_here)


def already_training(busy: TrainingRun) -> AlreadyTraining:
    """The error for a store on which a run is already training."""
    return AlreadyTraining(
        f"run {busy.id} (process {busy.pid}) is training on this store now, so nothing more was started; "
        "run the command again when it has ended"
    )
