"""Train the whole model in several processes that torchrun started, one of which records the run.

All processes run the same command. The first process does all steps of a run. The others (`run_worker`) wait until it
starts training, compute their shares of each batch, and exit. If a process is lost, all others fail, and the first
process records the run as failed. If the first process is lost, the second process records the failure.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import psutil
import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store

from store.db import Database
from store.processes import this_process
from store.training import fail_runs_of, has_ended, this_machine
from store.types import utc_now
from trainer.artifacts import put_tensors
from trainer.data import StoredPictures
from trainer.errors import BadSetting, ProcessLost
from trainer.fitting import FitModel, FitTask, OnStep, Triplets
from trainer.models import named_parameters, open_base, pick_device
from trainer.quiet import quiet_libraries
from trainer.settings import Place, TrainSettings

if TYPE_CHECKING:
    from trainer.fitting import WholeLearner

__all__ = ["Job", "Processes", "joined", "require_same", "run_worker"]

_ARRIVE_S = 60.0
"""Seconds that processes may start after each other."""
_PATIENCE = timedelta(days=7)
"""How long a process waits for another process: the first process may encode for days before it trains. A process that
exits closes its connections, so the others do not wait for it."""
_RECORD_S = 20.0
"""Seconds in which the first process must record the run's end. torchrun kills it after 30 s."""
_SIGNAL_S = 1.0
"""Seconds to wait after a lost connection for the signal that may have caused it."""


@dataclass(frozen=True)
class Job:
    """A training of the whole model, as it is sent to other processes.

    Args:
        settings: resolved settings.
        rows: the rows to train on.
        changed: parameters that differ from the base model at the start; empty if the process gets the weights from
            the first process.
    """

    settings: TrainSettings
    rows: Triplets
    changed: Mapping[str, Tensor] = field(default_factory=dict)

    def learner(self, database: Database) -> WholeLearner:
        """Load the model, ready for `fit`."""
        # Imported here, because most processes of Ray only pass jobs on.
        from trainer.fitting import WholeLearner  # noqa: PLC0415

        settings = self.settings
        encoder = open_base(database, settings, pick_device(settings.device)).encoder()
        put_tensors(named_parameters(encoder.model), self.changed, "the run's file")
        return WholeLearner(encoder, self.changed, encoder.framed(StoredPictures(database)), settings)


@dataclass(frozen=True)
class _Process:
    """A process of the group, as the store identifies it."""

    host: str
    pid: int
    start: int | None

    def has_ended(self) -> bool:
        """Whether the process is known to have ended. False for a process on another machine."""
        return has_ended(self.host, self.pid, utc_now(), self.start) is True


class Processes(Protocol):
    """The interface to processes that train a whole model together, for the process that records the run."""

    @property
    def count(self) -> int:
        """The number of processes."""

    @property
    def refuses_projections(self) -> bool:
        """Whether training only projections is an error, because that needs one process."""

    def fitting(self, changed: Mapping[str, Tensor]) -> FitModel:
        """Return a function that trains a model in these processes.

        Args:
            changed: parameters that differ from the base model at the start.
        """

    def watched(self, run_id: int) -> AbstractContextManager[None]:
        """Raise `ProcessLost` if the block fails because a process was lost.

        Raises:
            ProcessLost: a process was lost.
        """


@dataclass(frozen=True)
class Group:
    """The processes that torchrun started. Only the first process calls the methods."""

    members: Sequence[_Process]
    refuses_projections = True

    @property
    def count(self) -> int:
        """The number of processes."""
        return len(self.members)

    def fitting(self, _changed: Mapping[str, Tensor]) -> FitModel:
        """Return a function like `fit_full_model` that trains together with the other processes."""
        from trainer.fitting import fit_full_model  # noqa: PLC0415

        def fit(task: FitTask, on_step: OnStep) -> None:
            # The other processes get this process's weights when the training starts.
            distributed.broadcast_object_list([Job(task.settings, task.rows)], src=0)
            fit_full_model(task, on_step)
            # The other processes exit now, which must not count as a lost connection.
            distributed.destroy_process_group()

        return fit

    @contextmanager
    def watched(self, run_id: int) -> Iterator[None]:
        """Raise `ProcessLost` if the block fails, or is stopped by torchrun, because a process was lost.

        Raises:
            ProcessLost: a process of the group has ended.
        """
        try:
            with _signal_first():
                yield
        except (KeyboardInterrupt, RuntimeError) as error:
            _ignore_signals()
            lost = [rank for rank, member in enumerate(self.members) if rank and member.has_ended()]
            if not lost and (isinstance(error, KeyboardInterrupt) or not _is_connection(error)):
                raise
            which = f"process {lost[0]}" if lost else "a process"
            raise ProcessLost(
                f"run {run_id} failed because {which} of its {len(self.members)} processes failed or was killed; "
                "run the command again"
            ) from error


def _is_connection(error: BaseException) -> bool:
    """Whether a connection between processes was lost. gloo has no exception type for this."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


@contextmanager
def _signal_first() -> Iterator[None]:
    """After a lost connection, wait for a signal: a signal to all processes may have ended another process first."""
    try:
        yield
    except RuntimeError as error:
        if _is_connection(error):
            time.sleep(_SIGNAL_S)
        raise


def _ignore_signals() -> None:
    """Ignore signals while a failure is recorded: torchrun sends a signal to all processes after a failure."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def joined(place: Place, device: str) -> Iterator[Group]:
    """Join the group of processes that torchrun started.

    Args:
        place: this process's place in the group.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Raises:
        BadSetting: the processes do not agree on their number, some did not start, or there are not enough GPUs.
    """
    backend = "gloo"
    if pick_device(device) == "cuda":
        if place.local >= torch.cuda.device_count():
            raise BadSetting(
                f"process {place.local + 1} of this machine has no GPU of its own ({torch.cuda.device_count()} found); "
                "use a smaller --nproc-per-node, or --device cpu"
            )
        torch.cuda.set_device(place.local)
        backend = "nccl"
    with quiet_libraries():
        store = _meet(place)
        distributed.init_process_group(
            backend, store=store, rank=place.rank, world_size=place.processes, timeout=_PATIENCE
        )
    try:
        members: list[Any] = [None] * place.processes
        distributed.all_gather_object(members, _Process(this_machine(), *this_process()))
        yield Group(members)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _meet(place: Place) -> Store:
    """Wait until all processes have started."""
    from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

    wait = timedelta(seconds=_ARRIVE_S)
    try:
        found, *_ = next(rendezvous("env://", place.rank, place.processes, timeout=wait))
    except (distributed.DistError, RuntimeError, ValueError) as error:
        raise _missing(place, wait) from error
    store = PrefixStore("thumbtune", found)
    require_same(store, place, wait)
    return store


def require_same(store: Store, place: Place, wait: timedelta) -> None:
    """Check that all processes have started, and agree on their number.

    Args:
        store: a store that the processes share.
        place: this process's place among them.
        wait: how long to wait for the others.

    Raises:
        BadSetting: a process is missing, or was started with another number.
    """
    try:
        store.set(f"processes of {place.rank}", str(place.processes))
        store.wait([f"processes of {rank}" for rank in range(place.processes)], wait)
        others = [int(store.get(f"processes of {rank}")) for rank in range(place.processes)]
    except (distributed.DistError, RuntimeError) as error:
        raise _missing(place, wait) from error
    for rank, n in enumerate(others):
        if n != place.processes:
            raise BadSetting(
                f"process {rank} was started as one of {n} processes, and process {place.rank} as one of "
                f"{place.processes}; start all with the same numbers"
            )


def _missing(place: Place, wait: timedelta) -> BadSetting:
    return BadSetting(
        f"not all of the {place.processes} processes started within {wait.total_seconds():.0f} s; start them with "
        "torchrun, and with the same numbers on each machine"
    )


def run_worker(place: Place, device: str, open_store: Callable[..., Database]) -> int:
    """Run a process other than the first: wait for the training, and compute a share of each batch.

    Args:
        place: this process's place in the group.
        device: `auto`, `cpu`, `cuda` or `mps`.
        open_store: opens the store, with the argument `read_only`.

    Returns:
        The exit code: 0, or 1 if the first process failed or was interrupted; the first process prints the reason.

    Raises:
        ProcessLost: the first process has ended without recording the run's end; the run is recorded as failed.
        BadSetting: see `joined`.
        TrainerError, StoreError: this process could not do its share.
    """
    with joined(place, device) as group:
        first = group.members[0]
        try:
            received: list[Any] = [None]
            with _signal_first():
                distributed.broadcast_object_list(received, src=0)
                with quiet_libraries(), open_store(read_only=True) as database:
                    received[0].learner(database).fit(received[0].rows, lambda _step: None)
            return 0
        except BaseException as error:
            _ignore_signals()
            if _is_connection(error):
                # The traceback's frames hold this process's connections. Close them, so that the others fail too.
                traceback.clear_frames(error.__traceback__)
                distributed.destroy_process_group()
                _wait_for_end(first)
            # After any other error, this process exits at once, which closes its connections.
            if _mark_failed(first, place, open_store):
                raise ProcessLost(
                    f"the first of the {place.processes} processes was killed; its run is recorded as failed"
                ) from error
            if isinstance(error, KeyboardInterrupt) or _is_connection(error):
                return 1
            raise


def _wait_for_end(first: _Process) -> None:
    """Wait until the first process exits, if it is on this machine: it records how the run ended."""
    try:
        process = psutil.Process(first.pid)
        if first.host == this_machine() and not first.has_ended():
            process.wait(_RECORD_S)
    except (psutil.NoSuchProcess, psutil.TimeoutExpired):
        return


def _mark_failed(first: _Process, place: Place, open_store: Callable[..., Database]) -> bool:
    """Record the run as failed if the first process was killed. Only the second process does this."""
    if place.rank != 1 or not first.has_ended():
        return False
    with open_store(read_only=False) as database:
        reason = f"the first of its {place.processes} processes was killed"
        return database.transact(lambda session: fail_runs_of(session, first.host, first.pid, first.start, reason)) > 0
