"""Contamination: what an older model was trained on, and a newer snapshot holds out.

Groups keep a snapshot clean of itself: none of its held-out pairs shares a title or a picture with one it trains on.
But titles and pictures move between videos over the years, and an older model has seen what they were then. Where it is
measured on a newer snapshot, such pairs would reward memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy.orm import Session

from store.db import Database
from store.training import ExampleRow, get_run, trained_pairs
from trainer.data import normalised

__all__ = ["contaminated"]


def contaminated(database: Database, run_id: int, rows: Sequence[ExampleRow]) -> frozenset[str]:
    """Which held-out videos show a title or a picture that a run's model was trained on.

    Titles are compared as groups do it, normalised. What the model learnt that the run went on with counts, too.

    Args:
        database: the store.
        run_id: the run.
        rows: a snapshot's examples.
    """
    with database.read() as session:
        known = list(_trained_on(session, run_id))
    titles = {normalised(title) for title, _ in known}
    pictures = {picture for _, picture in known}
    return frozenset(
        row.video_id
        for row in rows
        if row.split != "train" and (row.picture_sha256 in pictures or normalised(row.title) in titles)
    )


def _trained_on(session: Session, run_id: int) -> Iterable[tuple[str, str]]:
    """(title, digest of the picture) of all that a run, and the runs it went on from, trained on."""
    followed: int | None = run_id
    while followed is not None:
        run = get_run(session, followed)
        if run.snapshot_id is not None:
            yield from trained_pairs(session, run.snapshot_id)
        # A run's champion is an earlier run, so this ends.
        followed = run.champion_run_id if run.settings.get("start") == "champion" else None
