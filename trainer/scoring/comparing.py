"""Compare two models on the thumbnails that both have ranked: the exact McNemar test, and the changed ranks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy.orm import Session

from store.db import Database
from store.tables import Rank
from store.training import get_run, ranks, snapshot_pairs
from trainer.data import SPLITS
from trainer.errors import BadSetting, RunUnusable
from trainer.scoring.metrics import Comparison, mcnemar

__all__ = ["Change", "Compared", "ComparedModel", "compare", "parse_run"]


def parse_run(text: str) -> tuple[int, str] | None:
    """Parse `N`, `N:tuned` (the trained model) or `N:base` to (run id, `tuned` or `base`); None for any other text."""
    found = re.fullmatch(r"(\d{1,18})(?::(base|tuned))?", text)
    return (int(found[1]), found[2] or "tuned") if found else None


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """A model in a comparison: its name (`N` or `N:base`), the number of thumbnails it ranked, and its snapshot."""

    name: str
    ranked: int
    snapshot_id: int


@dataclass(frozen=True, slots=True)
class Change:
    """A thumbnail whose own title has different ranks by A and B."""

    video_id: str
    title: str
    rank_a: int
    rank_b: int
    top_a: str
    top_b: str
    """The title that B ranked first. `top_a` is the title that A ranked first."""

    @property
    def flipped(self) -> bool:
        """Whether exactly one model ranks the own title first."""
        return (self.rank_a == 1) != (self.rank_b == 1)


@dataclass(frozen=True)
class Compared:
    """A comparison of two models on one split.

    Args:
        a, b: the models.
        split: the split.
        test: the McNemar test on the common thumbnails.
        changes: the thumbnails with different ranks: first the flipped ranks, then by the size of the change.
        same_pool: whether both models ranked the same titles. If not, the ranks are not directly comparable.
    """

    a: ComparedModel
    b: ComparedModel
    split: str
    test: Comparison
    changes: list[Change]
    same_pool: bool


def compare(database: Database, a: str, b: str, split: str = "valid") -> Compared:
    """Compare two models by the thumbnail-to-title ranks that their runs recorded.

    Args:
        database: the store.
        a: `N` for the model that run N trained, `N:base` for its base model as that run scored it.
        b: the other model, in the same form.
        split: `train`, `valid` or `test`.

    Raises:
        BadSetting: a name has another form, or the split is unknown.
        NotFound: a run does not exist.
        RunUnusable: a run has no ranks on this split, or the runs have no thumbnail in common.
    """
    if split not in SPLITS:
        raise BadSetting(f"split {split!r} is not known; use one of {', '.join(SPLITS)}")
    with database.read() as session:
        side_a, of_a = _side(session, a, split)
        side_b, of_b = _side(session, b, split)
        pairs_a = snapshot_pairs(session, side_a.snapshot_id, _named(of_a))
        pairs_b = snapshot_pairs(session, side_b.snapshot_id, _named(of_b))
    titles_a, titles_b = ({video: title for video, (title, _) in pairs.items()} for pairs in (pairs_a, pairs_b))
    # If a video's thumbnail was replaced between the two snapshots, the thumbnails are different.
    common = {video for video in of_a.keys() & of_b.keys() if pairs_a[video][1] == pairs_b[video][1]}
    if not common:
        raise RunUnusable(f"{a} and {b} have no thumbnail in common on the {split} split; compare other runs")
    test = mcnemar({v: of_a[v].rank for v in common}, {v: of_b[v].rank for v in common})
    changes = [
        Change(
            video,
            titles_b[video],
            of_a[video].rank,
            of_b[video].rank,
            titles_a[of_a[video].top_video_id],
            titles_b[of_b[video].top_video_id],
        )
        for video in common
        if of_a[video].rank != of_b[video].rank
    ]
    changes.sort(key=lambda change: (not change.flipped, -abs(change.rank_a - change.rank_b), change.video_id))
    pool_a = {video: titles_a[video] for video in of_a}
    pool_b = {video: titles_b[video] for video in of_b}
    return Compared(side_a, side_b, split, test, changes, pool_a == pool_b)


def _side(session: Session, name: str, split: str) -> tuple[ComparedModel, dict[str, Rank]]:
    parsed = parse_run(name)
    if parsed is None:
        raise BadSetting(f"{name!r} is not a run; use N for the model of run N, or N:base for its base model")
    run = get_run(session, parsed[0])
    found = ranks(session, run.id, parsed[1], "thumbnail_to_title", split)
    if run.snapshot_id is None or not found:
        raise RunUnusable(
            f"run {run.id} ({run.status}) has no ranks on the {split} split; use another run, or another split"
        )
    return ComparedModel(name, len(found), run.snapshot_id), found


def _named(rows: dict[str, Rank]) -> set[str]:
    return set(rows) | {row.top_video_id for row in rows.values()}
