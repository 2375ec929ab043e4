"""The row of a running run: records phase times, facts as they become known, heartbeats, and how the run ended."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sqlalchemy.orm import Session

from store.db import Database
from store.errors import StoreError
from store.processes import this_process
from store.tables import Sweep, TrainingRun
from store.training import (
    end_run_at_work,
    has_ended,
    lock_runs,
    mark_interrupted,
    mark_sweeps_interrupted,
    record_heartbeat,
    start_run,
    this_machine,
    update_run,
)
from trainer.errors import TrainerError, TrainingInterrupted, is_interrupt
from trainer.progress import Progress
from trainer.runs.provenance import git_commit, package_versions
from trainer.settings import FEATURES_IN_MEMORY, TrainSettings

if TYPE_CHECKING:
    from trainer.cluster import Processes

__all__ = ["Run", "begin", "known_at_start", "mark_stale", "ran_out_of_memory", "recorded", "heartbeat"]

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
"""Texts of torch's out-of-memory errors on the CPU, where torch has no exception type for them."""


@dataclass
class Run:
    """The state of one run, shared by its phases."""

    database: Database
    settings: TrainSettings
    progress: Progress
    id: int
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    processes: Processes | None = None
    """The processes that train the whole model together; None for this process alone."""
    features_in_memory: int = FEATURES_IN_MEMORY
    """See `trainer.settings`."""

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Add the block's wall-clock seconds to a phase."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - started

    def note(self, **columns: Any) -> None:
        """Set columns of the run's row."""
        self.database.transact(lambda session: update_run(session, self.id, **columns))

    def warn(self, text: str) -> None:
        """Add a warning to the result, and report it."""
        self.warnings.append(text)
        self.progress.warn(text)


def mark_stale(database: Database) -> None:
    """Mark runs and sweeps of ended processes as `interrupted`."""
    with database.write() as session:
        for stale in mark_interrupted(session, has_ended):
            logger.warning("run %d did not record its end; marked as interrupted", stale)
        for stale in mark_sweeps_interrupted(session, has_ended):
            logger.warning("sweep %d did not record its end; marked as interrupted", stale)


def known_at_start(settings: TrainSettings, device: str) -> dict[str, Any]:
    """The columns of a run's row that are known before any work."""
    return {
        "base_model": settings.model,
        "trained": settings.train,
        "seed": settings.seed,
        "settings": settings.as_dict(),
        "packages": package_versions(),
        "device": device,
        "git_commit": git_commit(),
        "host": this_machine(),
        **dict(zip(("pid", "process_start"), this_process(), strict=True)),
    }


def begin(
    database: Database,
    settings: TrainSettings,
    device: str,
    output: Path | None,
    *,
    guard: Callable[[Session], object] | None = None,
    **columns: Any,
) -> int:
    """Insert the run's row and return its id.

    With `guard`, no other run can start between the check in `guard` and the insertion. If `guard` raises, no run is
    started.
    """
    known = known_at_start(settings, device)
    with database.write() as session:
        if guard is not None:
            lock_runs(session)
            guard(session)
        path = None if output is None else str(output.absolute())
        return start_run(session, **known, output_path=path, **columns)


@contextmanager
def recorded(run: Run) -> Iterator[None]:
    """Record the end of the run when the block ends. A run that is already `done` stays `done`.

    Raises:
        TrainingInterrupted: a KeyboardInterrupt arrived.
        TrainerError: the machine ran out of memory.
    """
    try:
        with heartbeat(run.database, TrainingRun, run.id), run.database.patient():
            yield
    except TrainingInterrupted:
        raise  # the run had ended
    except BaseException as error:
        if is_interrupt(error):
            raise _interrupted(run) from error
        # Any error is recorded and raised again: a bug must not leave a row that reads `running`.
        exhausted = ran_out_of_memory(error)
        found = "out of memory" if exhausted else " ".join(str(error).split()) or type(error).__name__
        if _end(run, "failed", found) == "done" or not exhausted:
            raise
        raise TrainerError(
            f"run {run.id} ran out of memory; use a smaller --batch-size, or another --device"
        ) from error


def _interrupted(run: Run) -> TrainingInterrupted:
    if _end(run, "interrupted", "stopped by a signal") == "done":
        return TrainingInterrupted(
            f"run {run.id} was done before the signal arrived; 'thumbtune runs show {run.id}' shows its result"
        )
    return TrainingInterrupted(
        f"run {run.id} was interrupted; run the command again (encoded thumbnails and titles are kept)"
    )


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that the machine or its accelerator has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)


def _end(run: Run, status: str, error: str) -> str:
    """End the run if it is running, and return its final status: a signal may arrive right after it is done."""
    try:
        return run.database.transact(
            lambda session: end_run_at_work(session, run.id, status, error=error, phase_seconds=run.seconds)
        )
    except StoreError as failure:
        # The store itself may have stopped the run; then the original error is the one to report.
        logger.warning("run %d could not be marked %s: %s", run.id, status, failure)
        return status


SIGN_OF_LIFE_S = 60.0


@contextmanager
def heartbeat(database: Database, model: type[TrainingRun | Sweep], row_id: int) -> Iterator[None]:
    """Record every minute, while the block runs, that this process is working on the row."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(SIGN_OF_LIFE_S):
            try:
                with database.write() as session:
                    record_heartbeat(session, model, row_id)
            except StoreError as error:
                logger.warning("%s %d could not record that it is running: %s", model.__tablename__, row_id, error)

    thread = threading.Thread(target=tell, name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
