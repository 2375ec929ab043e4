"""The fine-tuning recipe on precomputed vectors, used to choose the projections' scale.

Same as `thumbtune train` with its default settings, but without a store: the towers are frozen, so the recipe trains
two matrices on pooled vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

BATCH, RATE, EPOCHS, SHARPNESS = 16, 1e-4, 2, 20.0
TOLERANCE = 0.01
"""Difference in mean recall@1 that is ignored: less than its standard error over the variants and seeds."""


@dataclass(frozen=True, slots=True)
class Channel:
    """Pooled vectors, float32 of shape (n, width), and titles of one channel's videos."""

    pictures: Tensor
    texts: Tensor
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Recall@1 from thumbnail to title on the test split, before and after, and the exact McNemar p."""

    base: float
    tuned: float
    p: float
    n: int


def recipe(channel: Channel, visual: Tensor, textual: Tensor, seed: int) -> Outcome:
    """Split 70/15/15, mine inside the split, fine-tune copies of the projections (out, in), score the test split."""
    n = len(channel.titles)
    order = np.random.RandomState(seed).permutation(n)
    train, test = order[: int(0.7 * n)], order[int(0.7 * n) + int(0.15 * n) :]
    matrices = (nn.Parameter(visual.clone()), nn.Parameter(textual.clone()))
    before = _hits(channel, matrices, test)
    _fit(channel, matrices, train, seed)
    after = _hits(channel, matrices, test)
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Outcome(float(before.mean()), float(after.mean()), p, len(test))


def _fit(channel: Channel, matrices: tuple[nn.Parameter, nn.Parameter], rows: np.ndarray, seed: int) -> None:
    negatives = _least_similar(channel, matrices[1].detach(), rows)
    batches = -(-len(rows) // BATCH)
    optimizer = torch.optim.AdamW(matrices, lr=RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (batches * EPOCHS))
    for epoch in range(EPOCHS):
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed + epoch)).numpy()
        for start in range(0, len(rows), BATCH):
            picked = order[start : start + BATCH]
            candidates = np.concatenate([rows[picked], rows[negatives[picked]]])
            left = nn.functional.normalize(channel.pictures[rows[picked]] @ matrices[0].T, dim=-1)
            right = nn.functional.normalize(channel.texts[candidates] @ matrices[1].T, dim=-1)
            loss = nn.functional.cross_entropy(left @ right.T * SHARPNESS, torch.arange(len(picked)))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(matrices, 1.0)
            optimizer.step()
            schedule.step()


def _least_similar(channel: Channel, textual: Tensor, rows: np.ndarray) -> np.ndarray:
    """Return the position of each row's least similar title, each used once, greedily in row order."""
    vectors = nn.functional.normalize(channel.texts[rows] @ textual.T, dim=-1)
    scores = (vectors @ vectors.T).numpy().copy()
    np.fill_diagonal(scores, np.inf)
    chosen = np.zeros(len(rows), np.int64)
    for row in range(len(rows)):
        best = int(scores[row].argmin())
        chosen[row] = best
        scores[:, best] = 10.0
        np.fill_diagonal(scores, np.inf)
    return chosen


def _hits(channel: Channel, matrices: tuple[nn.Parameter, nn.Parameter], rows: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        left = nn.functional.normalize(channel.pictures[rows] @ matrices[0].T, dim=-1)
        right = nn.functional.normalize(channel.texts[rows] @ matrices[1].T, dim=-1)
        best = (left @ right.T).argmax(dim=1).tolist()
    titles = [channel.titles[row] for row in rows]
    return np.array([titles[found] == titles[own] for own, found in enumerate(best)])


def choose_scale(
    channels: Sequence[Channel], visual: Tensor, textual: Tensor, sizes: Sequence[float], seeds: Sequence[int]
) -> tuple[float, dict[float, float]]:
    """Return the root mean square weight for the projections, and the mean tuned recall@1 of each candidate.

    The largest weight, and so the smallest change, within `TOLERANCE` of the best is chosen.
    """
    means = {}
    for size in sizes:
        first, second = scaled(visual, size), scaled(textual, size)
        tuned = [recipe(channel, first, second, seed).tuned for channel in channels for seed in seeds]
        means[size] = float(np.mean(tuned))
    best = max(means.values())
    return max(size for size, mean in means.items() if mean >= best - TOLERANCE), means


def scaled(matrix: Tensor, size: float) -> Tensor:
    """Return the matrix with a root mean square weight of `size`."""
    return matrix * (size / matrix.square().mean().sqrt())
