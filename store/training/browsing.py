"""Queries of the page about trained models: a run's mistakes, a video's recorded ranks, and marks of changes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.db import rows_as_dicts
from store.tables import Channel, Promotion, Rank, Snapshot, SyncRun, TrainingRun, Video, VideoVersion

__all__ = ["library_mark", "mistakes", "ranks_of_video"]


def library_mark(session: Session) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Return two values: the first changes when pairs may have changed, the second when the model in use may have.

    Reads only a few rows: pairs change in syncs, each of which records when it last wrote, and when a channel is
    removed. The model in use also depends on which channels the store has, and on the snapshots, because a base model
    is calibrated on the newest snapshot.
    """
    channels = select(func.count(Channel.id), func.count(Channel.removed_at), func.max(Channel.removed_at))
    pairs = (
        select(func.count(SyncRun.id), func.max(SyncRun.id), func.max(SyncRun.seen_at)),
        select(func.max(VideoVersion.id)),
        channels,
    )
    models = (
        select(func.max(Promotion.id)),
        select(func.max(TrainingRun.id), func.max(TrainingRun.finished_at)),
        select(func.max(Snapshot.id)),
        channels,
    )
    of_pairs, of_models = (
        tuple(value for query in queries for value in session.execute(query).one()) for queries in (pairs, models)
    )
    return of_pairs, of_models


def mistakes(
    session: Session, run_id: int, model: str, split: str, *, limit: int = 1 << 31, skip: int = 0
) -> list[dict[str, Any]]:
    """Return the rows of `run_errors` of one model of a run on a split, worst first."""
    return rows_as_dicts(
        session,
        "SELECT video_id, title, picture_sha256, rank, score, top_video_id, top_title, top_score FROM run_errors "
        "WHERE run_id = :run AND model = :model AND split = :split ORDER BY rank DESC, video_id "
        "LIMIT :limit OFFSET :skip",
        run=run_id,
        model=model,
        split=split,
        limit=limit,
        skip=skip,
    )


def ranks_of_video(session: Session, video_id: str, limit: int) -> list[dict[str, Any]]:
    """Return where the newest runs' tuned models ranked a video's own title, newest run first.

    The keys are `run_id`, `split`, `rank`, `score`, `top_video_id`, `top_score` and `top_title`, which is the current
    title of the video whose title was ranked first.
    """
    query = (
        select(Rank.run_id, Rank.split, Rank.rank, Rank.score, Rank.top_video_id, Rank.top_score, Video.title)
        .join(TrainingRun, TrainingRun.id == Rank.run_id)
        .join(Video, Video.id == Rank.top_video_id)
        .where(
            Rank.video_id == video_id,
            Rank.model == "tuned",
            Rank.direction == "thumbnail_to_title",
            TrainingRun.trial.is_(None),
        )
        .order_by(Rank.run_id.desc())
        .limit(limit)
    )
    names = ("run_id", "split", "rank", "score", "top_video_id", "top_score", "top_title")
    return [dict(zip(names, row, strict=True)) for row in session.execute(query)]
