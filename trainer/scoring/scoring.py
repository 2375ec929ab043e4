"""Score a model on a snapshot's examples: metrics and ranks, for all channels together and for each channel.

Each thumbnail is compared with all titles of its split, so the time grows with the square of a split. Held-out splits
are scored whole; of a larger training split, `MOST_TRAIN` rows are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from store.training import ExampleRow
from trainer.data import SPLITS, PictureSource, normalised, positions_of
from trainer.errors import Diverged
from trainer.models import Embedder, Vectors
from trainer.progress import Progress
from trainer.scoring.metrics import (
    Metric,
    Ranking,
    Spread,
    collapsed,
    measure,
    rank_rows,
    spread,
    why_unusable,
)

__all__ = [
    "Ranked",
    "Score",
    "Scores",
    "require_apart",
    "score_embedded",
    "score_examples",
]

ALL = "all"
"""The scope of metrics over all channels of the snapshot."""
DIRECTIONS = ("thumbnail_to_title", "title_to_thumbnail")
MOST_TRAIN = 50_000
"""The maximum number of training rows to score: the training split shows only whether a model overfits."""
_AT_ONCE = 1 << 14
"""Up to this number of rows, all splits are embedded together; with more, one after the other."""

Embed = Callable[[Sequence[ExampleRow]], tuple[Vectors, Vectors]]
"""Embeds each example's thumbnail and title: two arrays, (n, d) float32 of length 1."""


@dataclass(frozen=True, slots=True)
class Score:
    """A metric of a model on one split, in one direction and one scope (`all`, or a channel id)."""

    scope: str
    split: str
    direction: str
    metric: Metric


@dataclass(frozen=True)
class Ranked:
    """The ranks of one split in one direction, over all channels: `ranking` has one row for each of `videos`."""

    split: str
    direction: str
    videos: list[str]
    ranking: Ranking

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield rows for the store's `rank` table, without run and model."""
        for at, video in enumerate(self.videos):
            yield {
                "direction": self.direction,
                "video_id": video,
                "split": self.split,
                "rank": int(self.ranking.rank[at]),
                "score": float(self.ranking.score[at]),
                "top_video_id": self.videos[int(self.ranking.top[at])],
                "top_score": float(self.ranking.top_score[at]),
            }


@dataclass(frozen=True)
class Scores:
    """The result of scoring a model.

    Args:
        scores: the metrics.
        ranked: the ranks behind the metrics of all channels together.
        spread: the spread of the embeddings, for `require_apart`.
    """

    scores: list[Score]
    ranked: list[Ranked]
    spread: Spread

    def rank_rows(self) -> Iterator[dict[str, Any]]:
        """Yield rows for the store's `rank` table, without run and model."""
        return (row for ranked in self.ranked for row in ranked.rows())

    def ranks(self, split: str, direction: str) -> Mapping[str, int]:
        """Return {video id: rank} of one split and direction; empty if the split has no examples."""
        found = next((one for one in self.ranked if (one.split, one.direction) == (split, direction)), None)
        return {} if found is None else dict(zip(found.videos, found.ranking.rank.tolist(), strict=True))

    def table(self, direction: str = "thumbnail_to_title", scope: str = ALL) -> dict[str, dict[str, float]]:
        """Return {split: {metric: value}} of one direction and scope, without splits that have no examples."""
        found: dict[str, dict[str, float]] = {}
        for score in self.scores:
            if (score.direction, score.scope) == (direction, scope):
                found.setdefault(score.split, {})[score.metric.name] = score.metric.value
        return found

    def intervals(self) -> dict[str, dict[str, list[float]]]:
        """Return {split: {metric: [low, high]}}, thumbnail to title, for all channels together."""
        found: dict[str, dict[str, list[float]]] = {}
        for score in self.scores:
            low, high = score.metric.low, score.metric.high
            if (score.direction, score.scope) == (DIRECTIONS[0], ALL) and low is not None and high is not None:
                found.setdefault(score.split, {})[score.metric.name] = [low, high]
        return found

    def rows(self, model: str) -> list[dict[str, Any]]:
        """Return rows for the store's `evaluation` table, without the run."""
        return [
            {
                "model": model,
                "scope": score.scope,
                "split": score.split,
                "direction": score.direction,
                "metric": score.metric.name,
                "k": score.metric.k,
                "value": score.metric.value,
                "n": score.metric.n,
                "low": score.metric.low,
                "high": score.metric.high,
            }
            for score in self.scores
        ]


def score_examples(
    embedder: Embedder, examples: Sequence[ExampleRow], source: PictureSource, progress: Progress, what: str
) -> Scores:
    """Embed each distinct thumbnail and title once, and rank them. See `score_embedded`.

    Args:
        embedder: the model.
        examples: examples of any splits.
        source: loads the thumbnails.
        progress: receives the number of embedded thumbnails and titles.
        what: a description of the model, for `progress`.
    """

    def embed(rows: Sequence[ExampleRow]) -> tuple[Vectors, Vectors]:
        digests, titles = sorted({row.picture_sha256 for row in rows}), sorted({row.title for row in rows})
        picture_at, title_at = positions_of(digests), positions_of(titles)
        with progress.phase(f"Scoring {what}", len(digests) + len(titles)) as count:
            pictures = embedder.picture_vectors(digests, source, count)
            pictures = _select_rows(pictures, [picture_at[row.picture_sha256] for row in rows])
            texts = embedder.title_vectors(titles, count)
            return pictures, _select_rows(texts, [title_at[row.title] for row in rows])

    return score_embedded(examples, embed)


def score_embedded(examples: Sequence[ExampleRow], embed: Embed) -> Scores:
    """Rank each split's rows in both directions. Many rows are embedded split by split, which bounds the memory.

    If the snapshot has several channels, each channel with at least two rows in a split is also ranked separately. Of a
    training split of more than `MOST_TRAIN` rows, that many rows are taken, always the same.

    Args:
        examples: examples of any splits.
        embed: embeds some of them.

    Raises:
        Diverged: a vector is not finite, or does not have length 1, so its ranks would have no meaning.
    """
    splits = {split: _of_split(examples, split) for split in SPLITS}
    several = len({example.channel_id for example in examples}) > 1
    parts = [list(rows) for rows in splits.values() if len(rows)]
    if 0 < sum(map(len, parts)) <= _AT_ONCE:
        parts = [sorted(row for part in parts for row in part)]
    scores: list[Score] = []
    ranked: list[Ranked] = []
    spreads: list[Spread] = []
    origins: tuple[Vectors, Vectors] | None = None
    for part in parts:
        chosen = [examples[row] for row in part]
        pictures, texts = embed(chosen)
        reason = why_unusable(pictures) or why_unusable(texts)
        if reason is not None:
            raise Diverged(f"the model's embeddings are {reason}; train with a smaller --lr, or use another model")
        origins = origins or (pictures[:1].copy(), texts[:1].copy())
        spreads.append((spread(pictures, origins[0]), spread(texts, origins[1])))
        for split in SPLITS:
            rows = [row for row, example in enumerate(chosen) if example.split == split]
            inside = [chosen[row] for row in rows]
            of_split = _ranked(inside, _select_rows(pictures, rows), _select_rows(texts, rows), several)
            scores += of_split[0]
            ranked += of_split[1]
        # Before the next part is embedded.
        del pictures, texts
    widest = [max(of_tower, default=0.0) for of_tower in zip(*spreads, strict=True)]
    return Scores(scores, ranked, (widest[0], widest[1]) if widest else (0.0, 0.0))


def _of_split(examples: Sequence[ExampleRow], split: str) -> Sequence[int]:
    """The numbers of the rows of a split that are scored, ascending."""
    rows = [row for row, example in enumerate(examples) if example.split == split]
    if split != "train" or len(rows) <= MOST_TRAIN:
        return rows
    return sorted(rows[at] for at in np.random.default_rng(0).permutation(len(rows))[:MOST_TRAIN])


def _select_rows(vectors: Vectors, rows: Sequence[int]) -> Vectors:
    """Rows of an array; the array itself, without a copy, if these are all of its rows in order."""
    whole = len(rows) == len(vectors) and all(row == at for at, row in enumerate(rows))
    return vectors if whole else vectors[list(rows)]


def require_apart(base: Scores, tuned: Scores) -> None:
    """Check that training did not collapse the embeddings of all thumbnails, or of all titles, to one vector.

    Args:
        base: scores before training.
        tuned: scores after training, on the same rows.

    Raises:
        Diverged: the embeddings collapsed.
    """
    if collapsed(base.spread, tuned.spread):
        raise Diverged(
            "training gave all thumbnails, or all titles, the same embedding; "
            "use a smaller --lr, or a higher --temperature"
        )


def _ranked(
    rows: Sequence[ExampleRow], pictures: Vectors, texts: Vectors, several: bool
) -> tuple[list[Score], list[Ranked]]:
    """Rank the rows of one split. Return the metrics of all scopes, and the ranks over all channels.

    An equal title is a hit; a thumbnail is also a hit if it is the same file.
    """
    scores: list[Score] = []
    ranked: list[Ranked] = []
    titles, files = [normalised(row.title) for row in rows], [row.picture_sha256 for row in rows]
    for scope, inside in _scopes(rows, several):
        seen, said = _select_rows(pictures, inside), _select_rows(texts, inside)
        equal, same = [titles[row] for row in inside], [files[row] for row in inside]
        rankings = rank_rows(seen, said, [equal]), rank_rows(said, seen, [equal, same])
        for direction, ranking in zip(DIRECTIONS, rankings, strict=True):
            scores += [Score(scope, rows[0].split, direction, metric) for metric in measure(ranking.rank)]
            if scope == ALL:
                ranked.append(Ranked(rows[0].split, direction, [row.video_id for row in rows], ranking))
    return scores, ranked


def _scopes(rows: Sequence[ExampleRow], several: bool) -> list[tuple[str, Sequence[int]]]:
    """The rows of all channels and, if the snapshot has several, of each channel with at least two rows."""
    scopes: list[tuple[str, Sequence[int]]] = [(ALL, range(len(rows)))] if rows else []
    if several:
        of_channel: dict[str, list[int]] = {}
        for at, row in enumerate(rows):
            of_channel.setdefault(row.channel_id, []).append(at)
        scopes += [(channel, inside) for channel, inside in sorted(of_channel.items()) if len(inside) >= 2]
    return scopes
