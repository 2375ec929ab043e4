"""Choose the negatives of a selection: pool by pool, where a pool is a split, or the rows of a channel in a split."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.training import ExampleRow
from trainer.data import negatives
from trainer.errors import BadSetting
from trainer.settings import TrainSettings

if TYPE_CHECKING:
    from trainer.data.snapshot import Selection

__all__ = ["mine_negatives", "require_comparable"]

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


def require_comparable(selection: Selection, settings: TrainSettings) -> None:
    """Check that the strategy can choose negatives in reasonable time, before anything is encoded for it.

    Raises:
        BadSetting: `least-similar` would compare too many titles with each other.
    """
    if settings.negatives != "least-similar" or not selection.examples:
        return
    largest = max(Counter(_pool(row, settings) for row in selection.examples).values())
    if largest > negatives.LEAST_SIMILAR_UP_TO:
        raise BadSetting(
            f"least-similar negatives would compare each of {largest:,} titles with all others, which takes hours; the "
            f"most is {negatives.LEAST_SIMILAR_UP_TO:,}: use --negatives-within channel, --negatives hard or random, "
            "or fewer channels"
        )


def mine_negatives(selection: Selection, settings: TrainSettings, embed: Embed) -> list[ExampleRow]:
    """Choose a negative for each example from its own split and, if the settings say so, from its own channel.

    Within channels, an example gets a random title of its split if its channel has no title of another group there.

    Args:
        selection: the examples.
        settings: the strategy and its parameters.
        embed: returns (n, d) float32 vectors of n titles. Only strategies that compare titles call it, once for each
            split, or for each channel in a split.

    Raises:
        BadSetting: see `require_comparable`.
    """
    rows = list(selection.examples)
    if settings.negatives == "none":
        return rows
    require_comparable(selection, settings)
    pools: dict[Hashable, list[ExampleRow]] = {}
    for row in selection.examples:
        pools.setdefault(_pool(row, settings), []).append(row)
    for pool in pools.values():
        _put(rows, pool, _chosen(pool, settings, embed))
    if settings.negatives_within == "channel":
        # A fixed seed for strategies that compare titles: their choice does not depend on the run's seed.
        _put_others(rows, settings.seed if settings.negatives == "random" else 0)
    return rows


def _pool(row: ExampleRow, settings: TrainSettings) -> Hashable:
    return (row.split, row.channel_id) if settings.negatives_within == "channel" else row.split


def _put(rows: list[ExampleRow], pool: Sequence[ExampleRow], picks: negatives.Assignment) -> None:
    for row, pick in zip(pool, picks, strict=True):
        rows[row.position] = replace(row, negative_position=None if pick is None else pool[pick].position)


def _put_others(rows: list[ExampleRow], seed: int) -> None:
    """Give the rows without a negative a random title of their split, if it has one of another group."""
    for split in sorted({row.split for row in rows if row.negative_position is None}):
        inside = [row for row in rows if row.split == split]
        picks = negatives.random_titles([row.group_id for row in inside], seed)
        left = [(row, pick) for row, pick in zip(inside, picks, strict=True) if row.negative_position is None]
        for row, pick in left:
            rows[row.position] = replace(row, negative_position=None if pick is None else inside[pick].position)


def _chosen(pool: Sequence[ExampleRow], settings: TrainSettings, embed: Embed) -> negatives.Assignment:
    groups = [row.group_id for row in pool]
    if settings.negatives == "random":
        # A channel's negatives do not depend on which other channels there are.
        within = settings.negatives_within == "channel"
        seed = (settings.seed, zlib.crc32(pool[0].channel_id.encode())) if within else settings.seed
        return negatives.random_titles(groups, seed)
    vectors = embed([row.title for row in pool])
    if settings.negatives == "hard":
        return negatives.hard(vectors, groups, settings.hard_max_similarity)
    return negatives.least_similar(vectors, groups)
