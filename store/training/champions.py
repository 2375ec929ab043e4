"""The champions: the runs whose models are in use, one for each scope. Rows are added, never changed.

A scope is the set of channels for which a model is used, as a sorted tuple of ids. The empty tuple means all channels,
including channels that are added later.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from store.tables import Channel, Promotion, TrainingRun
from store.training.runs import done_runs, get_run, newest_done_run
from store.types import utc_now

__all__ = [
    "Champion",
    "Scope",
    "base_of_run",
    "champion",
    "champion_ids",
    "current_models",
    "fitting_champion",
    "model_in_use",
    "promote",
    "replace_champion",
    "scope_from_text",
    "scope_of",
]

Scope = tuple[str, ...]
ALL = "all"


@dataclass(frozen=True)
class Champion:
    """A run in use, the channels for which it is used, and since when (UTC)."""

    run: TrainingRun
    scope: Scope
    since: datetime


def scope_of(settings: dict[str, Any]) -> Scope:
    """Return the channels that a run with these settings was trained on; empty for all."""
    return tuple(sorted(set(settings.get("channels") or ())))


def scope_from_text(text_of_scope: str) -> Scope:
    """Read the column `promotion.scope`: `all`, or ids joined by commas."""
    return () if text_of_scope == ALL else tuple(text_of_scope.split(","))


def _text_of(scope: Scope) -> str:
    return ",".join(scope) or ALL


def current_models(session: Session) -> list[Champion]:
    """Return the champion of each scope: all channels first, then scopes of more channels before smaller scopes."""
    newest = select(func.max(Promotion.id)).group_by(Promotion.scope)
    query = (
        select(TrainingRun, Promotion.scope, Promotion.promoted_at)
        .join(Promotion, Promotion.run_id == TrainingRun.id)
        .where(Promotion.id.in_(newest))
    )
    found = [Champion(run, scope_from_text(scope), since) for run, scope, since in session.execute(query)]
    return sorted(found, key=lambda one: (one.scope != (), -len(one.scope), one.scope))


def fitting_champion(session: Session, channels: Iterable[str] = ()) -> Champion | None:
    """Return the champion of the smallest scope that contains all these channels, or None.

    Args:
        session: any session.
        channels: ids; empty for all channels of the store.
    """
    requested = set(channels) or set(session.scalars(select(Channel.id).where(Channel.removed_at.is_(None))))
    fitting = [one for one in current_models(session) if not one.scope or (requested and requested <= set(one.scope))]
    return fitting[-1] if fitting else None


def champion(session: Session, channels: Iterable[str] = ()) -> TrainingRun | None:
    """Return the run of `fitting_champion`, or None."""
    found = fitting_champion(session, channels)
    return None if found is None else found.run


def model_in_use(session: Session, channels: Iterable[str] = ()) -> tuple[int, str] | None:
    """Return the champion for these channels; without a champion, the base model of the first run.

    The base model of a later run does not replace it without a comparison. Of the runs with the same base model as the
    first, the newest is returned, because its folder may have been moved.

    None before the first run that is done. In stores from before models were compared, the newest run itself is in use.

    Args:
        session: any session.
        channels: ids; empty for all channels of the store.

    Returns:
        (run id, `tuned` or `base`).
    """
    in_use = champion(session, channels)
    if in_use is not None:
        return in_use.id, "tuned"
    newest = newest_done_run(session)
    if newest is None:
        return None
    if newest.decision is None and not current_models(session):
        return newest.id, "tuned"
    first, *others = done_runs(session)
    return next((run for run in reversed(others) if base_of_run(run) == base_of_run(first)), first).id, "base"


def base_of_run(run: TrainingRun) -> tuple[Any, ...]:
    """Return what identifies a run's base model: its fingerprint, crop mode, and whether bars are removed."""
    return run.base_fingerprint, *(run.settings.get(name) for name in ("fit", "bars"))


def champion_ids(session: Session) -> list[int]:
    """Return the ids of all promoted runs in order of promotion; a run promoted twice occurs twice."""
    return list(session.scalars(select(Promotion.run_id).order_by(Promotion.id)))


def promote(session: Session, run_id: int, reason: str, scope: Scope | None = None) -> int | None:
    """Make a run a scope's champion; return that scope's previous one, or None.

    Args:
        session: a write session.
        run_id: the run.
        reason: recorded with the promotion.
        scope: the channels for which it is used; None for the channels that it was trained on.

    Raises:
        NotFound: the run does not exist.
    """
    run = get_run(session, run_id)
    scope = scope_of(run.settings) if scope is None else scope
    _lock(session)
    replaced = next((one.run.id for one in current_models(session) if one.scope == scope), None)
    session.add(Promotion(run_id=run_id, promoted_at=utc_now(), reason=reason, scope=_text_of(scope)))
    session.flush()
    return replaced


def replace_champion(session: Session, run_id: int, old: int | None, reason: str) -> bool:
    """Make a run its scope's champion in place of run `old`; do nothing if `old` is not in use for that scope.

    Args:
        session: a write session.
        run_id: the new champion.
        old: the run that it was compared with; None if there was no champion.
        reason: the reason, with the figures.

    Returns:
        Whether the run is the champion now. False: another run was promoted in the meantime and stays the champion.

    Raises:
        NotFound: the run does not exist.
    """
    _lock(session)
    current = champion(session, scope_of(get_run(session, run_id).settings))
    if (None if current is None else current.id) != old:
        return False
    promote(session, run_id, reason)
    return True


def _lock(session: Session) -> None:
    """Block other promotions between reading the champion and replacing it; readers don't wait.

    On SQLite a write transaction is exclusive from its start.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text("LOCK TABLE promotion IN SHARE ROW EXCLUSIVE MODE"))
