"""The loss: multiple negatives ranking (Henderson et al. 2017, https://arxiv.org/abs/1705.00652), equal titles masked.

A row's candidates are all positives and all negatives of its batch. A row's own title can be among them a second time,
as another row's positive or negative: the plain loss then pushes the row away from its own title. Masked, such a
candidate does not take part. Without a mask this is sentence-transformers' MultipleNegativesRankingLoss, which tests
compare it with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from trainer.data import normalised

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["RankingLoss", "equal_titles", "ranking_loss", "title_labels"]


def title_labels(titles: Sequence[str], groups: Mapping[str, str] | None = None) -> dict[str, int]:
    """{title: number}: equal numbers for titles that are equal after normalisation, or of one group.

    Args:
        titles: all that can be candidates.
        groups: {title: group}. A group's videos share titles or thumbnails, so another's title is a row's own, too.
    """
    numbers: dict[tuple[str, str], int] = {}
    known = groups or {}
    keys = {title: ("group", known[title]) if title in known else ("title", normalised(title)) for title in titles}
    return {title: numbers.setdefault(key, len(numbers)) for title, key in keys.items()}


def equal_titles(own: Tensor, candidates: Tensor) -> Tensor:
    """Which candidates are a row's own title once more: (b, c) bool.

    Args:
        own: (b,) int64, the label of each row's title.
        candidates: (c,) int64, the candidates' labels; the first b are the rows' own titles, in order.
    """
    equal = own[:, None] == candidates[None, :]
    rows = torch.arange(len(own), device=own.device)
    equal[rows, rows] = False
    return equal


def ranking_loss(anchors: Tensor, candidates: Tensor, scale: float, masked: Tensor | None) -> Tensor:
    """The mean over the rows of -log softmax(scale * cosine) at the row's own title.

    Args:
        anchors: (b, d) embeddings of the thumbnails, any length.
        candidates: (c, d) embeddings of the titles; the first b are the rows' own, in order, then the negatives.
        scale: 1 / temperature.
        masked: (b, c) bool, candidates that don't take part; None for all do.
    """
    scores = normalize(anchors, dim=1) @ normalize(candidates, dim=1).T * scale
    if masked is not None:
        scores = scores.masked_fill(masked, -torch.inf)
    # As the library computes it: a loss near 0 keeps its digits.
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device))


class RankingLoss(nn.Module):
    """`ranking_loss` on a whole model, as sentence-transformers' trainer calls a loss.

    Args:
        model: embeds pictures and titles.
        scale: 1 / temperature.
        mask: whether equal titles are masked.
    """

    def __init__(self, model: SentenceTransformer, scale: float, mask: bool) -> None:
        super().__init__()
        self.model = model
        self.scale = scale
        self.mask = mask

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            sentence_features: the inputs of anchors, positives and, with mined negatives, negatives.
            labels: (b, 1 or 2) int64: the labels of each row's title and of its negative.
        """
        anchors, *titles = (self.model(features)["sentence_embedding"] for features in sentence_features)
        masked = equal_titles(labels[:, 0], labels.T.flatten()) if self.mask else None
        return ranking_loss(anchors, torch.cat(titles), self.scale, masked)
