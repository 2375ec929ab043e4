"""Find the pairs of a newer snapshot's held-out splits that an older model was trained on.

Within a snapshot, groups prevent this: no held-out pair shares a title or a thumbnail with a training pair. But titles
and thumbnails move between videos over the years, and an older model has seen earlier ones. When it is scored on a
newer snapshot, such pairs would measure what it memorized.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy.orm import Session

from store.db import Database
from store.training import ExampleRow, get_run, trained_pairs
from trainer.data import normalised

__all__ = ["contaminated"]


def contaminated(database: Database, run_id: int, rows: Sequence[ExampleRow]) -> frozenset[str]:
    """Find the held-out videos that show a title or a thumbnail that a run's model was trained on.

    Titles are normalised before the comparison, as they are for groups. The training pairs of the runs that the run
    continued from count too.

    Args:
        database: the store.
        run_id: the run.
        rows: a snapshot's examples.

    Returns:
        The ids of the videos.
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
    """The (title, thumbnail digest) pairs that a run, and the runs it continued from, were trained on."""
    followed: int | None = run_id
    while followed is not None:
        run = get_run(session, followed)
        if run.snapshot_id is not None:
            yield from trained_pairs(session, run.snapshot_id)
        # This ends, because the champion of a run is always an earlier run.
        followed = run.champion_run_id if run.settings.get("start") == "champion" else None
