"""Score a model on a snapshot's examples: metrics and ranks, for all channels together and for each channel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

__all__ = ["ALL", "DIRECTIONS", "Score", "Scores", "require_apart", "score_examples", "score_vectors"]

ALL = "all"
"""The scope of metrics over all channels of the snapshot."""
DIRECTIONS = ("thumbnail_to_title", "title_to_thumbnail")


@dataclass(frozen=True, slots=True)
class Score:
    """A metric of a model on one split, in one direction and one scope (`all`, or a channel id)."""

    scope: str
    split: str
    direction: str
    metric: Metric


@dataclass(frozen=True)
class Scores:
    """The result of scoring a model.

    Args:
        scores: the metrics.
        ranks: rows for the store's `rank` table (scope `all`), without run and model.
        spread: the spread of the embeddings, for `require_apart`.
    """

    scores: list[Score]
    ranks: list[dict[str, Any]]
    spread: Spread

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
    """Embed each distinct thumbnail and title once, then call `score_vectors`.

    Args:
        embedder: the model.
        examples: examples of any splits.
        source: loads the thumbnails.
        progress: receives the number of embedded thumbnails and titles.
        what: a description of the model, for `progress`.
    """
    digests = sorted({example.picture_sha256 for example in examples})
    titles = sorted({example.title for example in examples})
    with progress.phase(f"Scoring {what}", len(digests) + len(titles)) as count:
        pictures = embedder.picture_vectors(digests, source, count)
        texts = embedder.title_vectors(titles, count)
    picture_at, title_at = positions_of(digests), positions_of(titles)
    return score_vectors(
        examples,
        pictures[[picture_at[example.picture_sha256] for example in examples]],
        texts[[title_at[example.title] for example in examples]],
    )


def score_vectors(examples: Sequence[ExampleRow], pictures: Vectors, texts: Vectors) -> Scores:
    """Rank each split's rows in both directions.

    If the snapshot has several channels, each channel with at least two rows in a split is also ranked separately.

    Args:
        examples: n examples of any splits.
        pictures: (n, d) float32 of length 1, the embedding of each example's thumbnail.
        texts: (n, d) float32 of length 1, the embedding of each example's title.

    Raises:
        Diverged: a vector is not finite, or does not have length 1, so its ranks would have no meaning.
    """
    reason = why_unusable(pictures) or why_unusable(texts)
    if reason is not None:
        raise Diverged(f"the model's embeddings are {reason}; train with a smaller --lr, or use another model")
    scores: list[Score] = []
    ranks: list[dict[str, Any]] = []
    for split in SPLITS:
        rows = [index for index, example in enumerate(examples) if example.split == split]
        for scope, inside in _scopes(examples, rows):
            for direction, ranking in _rankings(examples, inside, pictures, texts):
                scores += [Score(scope, split, direction, metric) for metric in measure(ranking.rank)]
                if scope == ALL:
                    ranks += _rank_rows(examples, inside, split, direction, ranking)
    return Scores(scores, ranks, (spread(pictures), spread(texts)))


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


def _scopes(examples: Sequence[ExampleRow], rows: list[int]) -> list[tuple[str, list[int]]]:
    """The rows of all channels and, if the snapshot has several, of each channel with at least two rows."""
    scopes = [(ALL, rows)] if rows else []
    if len({example.channel_id for example in examples}) > 1:
        sizes = Counter(examples[row].channel_id for row in rows)
        scopes += [
            (channel, [row for row in rows if examples[row].channel_id == channel])
            for channel, n in sorted(sizes.items())
            if n >= 2
        ]
    return scopes


def _rankings(
    examples: Sequence[ExampleRow], rows: Sequence[int], pictures: Vectors, texts: Vectors
) -> list[tuple[str, Ranking]]:
    """Rank in both directions. An equal title is a hit; a thumbnail is also a hit if it is the same file."""
    equal_titles = [normalised(examples[row].title) for row in rows]
    same_files = [examples[row].picture_sha256 for row in rows]
    picture_rows, title_rows = pictures[list(rows)], texts[list(rows)]
    return [
        (DIRECTIONS[0], rank_rows(picture_rows, title_rows, [equal_titles])),
        (DIRECTIONS[1], rank_rows(title_rows, picture_rows, [equal_titles, same_files])),
    ]


def _rank_rows(
    examples: Sequence[ExampleRow], rows: Sequence[int], split: str, direction: str, ranking: Ranking
) -> list[dict[str, Any]]:
    return [
        {
            "direction": direction,
            "video_id": examples[row].video_id,
            "split": split,
            "rank": int(ranking.rank[at]),
            "score": float(ranking.score[at]),
            "top_video_id": examples[rows[int(ranking.top[at])]].video_id,
            "top_score": float(ranking.top_score[at]),
        }
        for at, row in enumerate(rows)
    ]
