"""Retrain when enough pairs are new, and put the better model into use. Runs on a schedule, so it is cheap when idle.

No heavy library is imported until there are pairs to train on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from store.db import Database, unsound
from store.tables import TrainingRun
from store.training import (
    NewPairs,
    Scope,
    champion,
    channel_titles,
    current_models,
    get_run,
    lives_here,
    new_pairs_since,
    newest_done_run,
    promote,
    run_at_work,
    scope_of,
    split_videos,
)
from trainer.data import channel_id, left_out, members_of
from trainer.errors import AlreadyTraining, BadSetting
from trainer.progress import Progress
from trainer.settings import MODEL_BESIDE_CHAMPION, TrainSettings

if TYPE_CHECKING:
    from trainer.runs.training import TrainResult

__all__ = [
    "Inherited",
    "Promoted",
    "Retrained",
    "inherited_settings",
    "new_pairs",
    "promote_run",
    "retrain",
    "scopes_to_retrain",
]


@dataclass(frozen=True)
class Inherited:
    """The settings to retrain with, and their source.

    Args:
        settings: the requested settings, completed.
        run_id: the run whose settings complete them; None if the defaults do.
    """

    settings: TrainSettings
    run_id: int | None


@dataclass(frozen=True)
class Retrained:
    """The result of `retrain`.

    Args:
        new: the pairs that count as new (see `new_pairs_since`).
        result: the run; None if too few pairs were new.
        champion_id: the champion now, or None.
    """

    new: NewPairs
    result: TrainResult | None
    champion_id: int | None


@dataclass(frozen=True)
class Promoted:
    """A manual promotion: the champion before it, or None; `changed` is False if the run was already the champion."""

    replaced: int | None
    changed: bool


def scopes_to_retrain(database: Database, channels: Sequence[str] = ()) -> list[Scope]:
    """Return the sets of channels for which `retrain` maintains a model.

    Channels that were removed from the store are left out of their scopes.

    Args:
        database: the store.
        channels: ids or handles, which form the only scope. Empty: each scope that has a champion, or all channels if
            there is no champion.

    Raises:
        BadSetting: a channel is not in the store.
    """
    with database.read() as session:
        known = channel_titles(session)
        if channels:
            return [tuple(sorted({channel_id(name, known) for name in channels}))]
        scopes = [one.scope for one in current_models(session)]
        newest = None if scopes else newest_done_run(session)
    if newest is not None and newest.decision is None:  # a store from before models were compared
        scopes = [scope_of(newest.settings)]
    left = [(scope, tuple(channel for channel in scope if channel in known)) for scope in scopes]
    return list(dict.fromkeys(kept for scope, kept in left if kept or not scope)) or [()]


def inherited_settings(database: Database, given: Mapping[str, Any], scope: Scope | None = None) -> Inherited:
    """Complete the given settings with those of the run in use for these channels, else with the defaults.

    `start` and `device` are never inherited. A run's `bf16` becomes `auto`, because this machine may not support it.

    Args:
        database: the store.
        given: fields of `TrainSettings`; None and () count as not given.
        scope: ids of the channels to train on, empty for all; None: the given channels, else the run's.

    Raises:
        BadSetting: a value is out of range, or a model is given together with `start="champion"`.
    """
    chosen = {name: value for name, value in given.items() if value is not None and value != ()}
    if chosen.get("start") == "champion" and "model" in chosen:
        raise BadSetting(MODEL_BESIDE_CHAMPION)
    if scope is not None:
        chosen["channels"] = scope
    with database.read() as session:
        known = channel_titles(session)
        run = _reference(session, [channel_id(name, known) for name in chosen.get("channels", ())])
    if run is None:
        return Inherited(TrainSettings(**chosen), None)
    today = TrainSettings()
    kept = replace(TrainSettings.from_dict(run.settings), start=today.start, device=today.device)
    if kept.precision == "bf16":
        kept = replace(kept, precision="auto")
    return Inherited(replace(kept, **chosen), run.id)


def new_pairs(session: Session, channels: Sequence[str]) -> NewPairs:
    """Count the current pairs that neither the run in use nor a later candidate has seen.

    Args:
        session: the store.
        channels: ids or handles; empty for all.

    Raises:
        BadSetting: a channel is not in the store.
    """
    known = channel_titles(session)
    channel_ids = {channel_id(name, known) for name in channels}
    run = _reference(session, sorted(channel_ids))
    # Group by the videos' current titles and thumbnails: the groups in the store are those of the last snapshot.
    videos = split_videos(session)
    digests = {video.picture_sha256 for video in videos if video.picture_sha256 is not None}
    damaged = unsound(session, digests)
    unusable = {video.video_id for video in videos if video.picture_sha256 in damaged}
    reference = None if run is None else run.id
    found = new_pairs_since(session, reference, channel_ids, left_out=left_out(members_of(videos)) | unusable)
    if found.total == 0:
        return found
    # A check without new pairs need not load these libraries.
    from trainer.data import alike_pictures, sketched  # noqa: PLC0415

    alike = alike_pictures(session, sketched(session, digests - damaged))
    elsewhere = left_out(members_of(videos, alike)) | unusable
    return new_pairs_since(session, reference, channel_ids, left_out=elsewhere)


def retrain(
    database: Database,
    settings: TrainSettings,
    *,
    min_new: int = 10,
    output: Path | None = None,
    progress: Progress | None = None,
) -> Retrained:
    """Train if enough pairs are new, and put the new model into use if it is better than the one in use.

    Too few new pairs are not an error. The run's end and its promotion are one transaction: if the process is killed,
    the champion is unchanged and the pairs stay new.

    Args:
        database: the store, writable.
        settings: the run's settings.
        min_new: the number of pairs that must be new; 0 always trains.
        output: a new or empty folder to which the whole model is also written.
        progress: receives the phases and warnings.

    Raises:
        AlreadyTraining: another process is training on this store.
        TrainerError, StoreError: see `trainer.runs.training.train`.
    """

    def check(session: Session) -> NewPairs:
        return _enough_new(session, settings.channels, min_new)

    result: TrainResult | None = None
    try:
        with database.read() as session:
            found = check(session)
        from trainer.runs.training import train  # noqa: PLC0415 (loads torch)

        # Another process may have trained while libraries were loaded, so the run checks again when it starts.
        result = train(database, settings, output=output, progress=progress, compete=True, guard=check)
    except _TooFewError as few:
        found = few.found
    return Retrained(found, result, _champion_id(database, settings.channels))


def _enough_new(session: Session, channels: Sequence[str], min_new: int) -> NewPairs:
    """Count the new pairs.

    Raises:
        _TooFewError: fewer than `min_new` pairs are new.
        AlreadyTraining: another process is training on this store.
    """
    # In this order, because a run that ends in between is seen by at least one of the two queries.
    busy = run_at_work(session, lives_here)  # processes of other machines are not checked
    found = new_pairs(session, channels)
    if found.total < min_new:
        raise _TooFewError(found)
    if busy is not None:
        raise AlreadyTraining(
            f"run {busy.id} (process {busy.pid}) is training on this store, so nothing else was started; "
            "run the command again when that run has ended"
        )
    return found


class _TooFewError(Exception):
    """Too few pairs are new. Internal: `retrain` catches it."""

    def __init__(self, found: NewPairs) -> None:
        super().__init__(found)
        self.found = found


def promote_run(database: Database, run_id: int, reason: str, scope: Scope | None = None) -> Promoted:
    """Put a run's model into use manually, after checking that it can be loaded.

    Args:
        database: the store.
        run_id: the run.
        reason: recorded with the promotion.
        scope: ids of the channels for which it is used, () for all; None for the channels that it was trained on.

    Raises:
        NotFound: there is no such run.
        RunUnusable: the run is not done or is a sweep's trial, its tensors are gone or changed, or its base model
            changed.
        ModelUnavailable: its base model can't be loaded.
    """
    from trainer.quiet import quiet_libraries  # noqa: PLC0415 (loads torch)
    from trainer.runs.contest import why_unusable  # noqa: PLC0415

    with quiet_libraries():
        error = why_unusable(database, run_id, "cpu")
    if error is not None:
        raise error
    with database.write() as session:
        scope_to_use = scope_of(get_run(session, run_id).settings) if scope is None else scope
        if any(one.run.id == run_id and one.scope == scope_to_use for one in current_models(session)):
            return Promoted(None, changed=False)
        return Promoted(promote(session, run_id, reason, scope_to_use), changed=True)


def _reference(session: Session, channels: Sequence[str]) -> TrainingRun | None:
    """The run in use for these channels, else the newest done run (in stores from before champions existed)."""
    found = champion(session, channels)
    return found if found is not None or current_models(session) else newest_done_run(session)


def _champion_id(database: Database, channels: Sequence[str]) -> int | None:
    with database.read() as session:
        run = champion(session, channels)
    return None if run is None else run.id
