"""Identify this machine, and find runs and sweeps with status `running` whose process has ended.

Processes of this machine since its last boot are checked directly. All other processes are judged by their heartbeats,
because no name identifies a machine reliably: host names are shared, and images and clones share machine ids. They
count as ended after `LEASE` without a heartbeat.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from store.processes import is_alive
from store.tables import Sweep, TrainingRun
from store.types import utc_now
from store.youtube import LEASE, clock

__all__ = [
    "HasEnded",
    "has_ended",
    "heard_at",
    "lives_here",
    "mark_interrupted_rows",
    "record_heartbeat",
    "this_machine",
]

HasEnded = Callable[[str, int, datetime, int | None], bool | None]
"""Called with a host, a process id, a time at which the process was running, and the column `process_start`. Returns
whether the process has ended, or None if unknown."""

_ERROR = "the process ended unexpectedly (killed, or the machine stopped)"


def heard_at(row: TrainingRun | Sweep) -> datetime:
    """When a row's process last sent a heartbeat."""
    return row.seen_at or row.started_at


def mark_interrupted_rows(session: Session, model: type[TrainingRun | Sweep], has_ended: HasEnded) -> list[int]:
    """Mark `running` rows as `interrupted` whose process is gone or was silent for `LEASE`; return their ids.

    A process that is known to be running counts, however long it was silent: the clock may have been put forward, and
    its next heartbeat comes within a minute. Rows of earlier versions, which recorded no heartbeats, are judged
    only by their process.
    """
    silent_since = clock(session, utc_now()) - LEASE
    query = select(model).where(model.status == "running")
    rows = cast("Sequence[TrainingRun | Sweep]", session.scalars(query).all())
    dead = []
    for row in rows:
        ended = has_ended(row.host, row.pid, heard_at(row), row.process_start)
        if ended or (ended is None and row.seen_at is not None and row.seen_at < silent_since):
            dead.append(row.id)
    # On PostgreSQL a run may have ended normally since its row was read, and its process after that.
    still = update(model).where(model.id.in_(dead), model.status == "running")
    marked = still.values(status="interrupted", error=_ERROR, finished_at=utc_now()).returning(model.id)
    return sorted(session.scalars(marked))


def record_heartbeat(session: Session, model: type[TrainingRun | Sweep], row_id: int) -> None:
    """Record a heartbeat. A run or sweep that was wrongly marked as `interrupted` becomes `running` again."""
    of_row = update(model).where(model.id == row_id)
    session.execute(of_row.values(seen_at=clock(session, utc_now())))
    wrongly = of_row.where(model.status == "interrupted", model.error == _ERROR)
    session.execute(wrongly.values(status="running", error=None, finished_at=None))


PROC = Path("/proc")
_MADE_UP = 1 << 40
"""The bit that marks a random result of `uuid.getnode`, which differs each time, because it found no MAC address."""


def this_machine() -> str:
    """Return a name for the scope in which process ids are unique. Machines and containers can share a host name.

    On Linux it includes the boot id and the PID namespace (pid_namespaces(7)); elsewhere the MAC address, if known.
    """
    name = socket.gethostname()
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = (PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return name if _MADE_UP & (node := uuid.getnode()) else f"{name} ({node:012x})"
    return f"{name} ({boot[:8]}-{namespace:x})"


def lives_here(host: str, pid: int, heard_at: datetime, start: int | None = None) -> bool:
    """Whether the process that was running on `host` at `heard_at` is still running on this machine."""
    return _is_here(host) and is_alive(pid, heard_at, start)


def has_ended(host: str, pid: int, heard_at: datetime, start: int | None = None) -> bool | None:
    """Whether the process that was running on `host` at `heard_at` has ended; None if unknown.

    It is unknown for other machines (even with this host name), for processes from before this machine's last boot, and
    for a process that seems to be running, but whose start was not recorded.
    """
    if not _is_here(host):
        return None
    return (None if start is None else False) if is_alive(pid, heard_at, start) else True


def _is_here(host: str) -> bool:
    # Rows of earlier versions contain only the host name.
    return host in (this_machine(), socket.gethostname())
