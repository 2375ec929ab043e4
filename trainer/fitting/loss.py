"""Multiple negatives ranking loss (Henderson et al. 2017, https://arxiv.org/abs/1705.00652) with masked equal titles.

A row's candidates are all positives and negatives of its batch. If its own title also occurs as another row's positive
or negative, the plain loss pushes the row away from its own title. The mask excludes such candidates. Without a mask,
the loss equals MultipleNegativesRankingLoss of sentence-transformers; tests compare the two.
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
    """Return {title: number}. Titles of one group, and titles that are equal after normalisation, get the same number.

    Args:
        titles: all titles that can be candidates.
        groups: {title: group}. The videos of a group share a title or a thumbnail, so their titles are not negatives of
            each other.
    """
    numbers: dict[tuple[str, str], int] = {}
    known = groups or {}
    keys = {title: ("group", known[title]) if title in known else ("title", normalised(title)) for title in titles}
    return {title: numbers.setdefault(key, len(numbers)) for title, key in keys.items()}


def equal_titles(own: Tensor, candidates: Tensor) -> Tensor:
    """Return which candidates repeat a row's own title: (b, c) bool.

    Args:
        own: (b,) int64, the label of each row's title.
        candidates: (c,) int64, the label of each candidate. The first b are the rows' own titles, in order.
    """
    equal = own[:, None] == candidates[None, :]
    rows = torch.arange(len(own), device=own.device)
    equal[rows, rows] = False
    return equal


def ranking_loss(anchors: Tensor, candidates: Tensor, scale: float, masked: Tensor | None) -> Tensor:
    """Return the mean over the rows of -log softmax(scale * cosine) at the row's own title.

    Args:
        anchors: (b, d) embeddings of the thumbnails, of any length.
        candidates: (c, d) embeddings of the titles: first the b rows' own titles, in order, then the negatives.
        scale: 1 / temperature.
        masked: (b, c) bool, the candidates to exclude; None to exclude no candidate.
    """
    scores = normalize(anchors, dim=1) @ normalize(candidates, dim=1).T * scale
    if masked is not None:
        scores = scores.masked_fill(masked, -torch.inf)
    # Computed as in the library. It is accurate for losses near 0.
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device))


class RankingLoss(nn.Module):
    """`ranking_loss` of a whole model, with the interface of losses in sentence-transformers.

    Args:
        model: the model, which embeds thumbnails and titles.
        scale: 1 / temperature.
        mask: whether equal titles are masked.
    """

    def __init__(self, model: SentenceTransformer, scale: float, mask: bool) -> None:
        super().__init__()
        self.model = model
        self.scale = scale
        self.mask = mask

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Return the loss of one batch.

        Args:
            sentence_features: model inputs of the anchors, the positives and, with mined negatives, the negatives.
            labels: (b, 1 or 2) int64, the labels of each row's title and of its negative.
        """
        anchors, *titles = (self.model(features)["sentence_embedding"] for features in sentence_features)
        masked = equal_titles(labels[:, 0], labels.T.flatten()) if self.mask else None
        return ranking_loss(anchors, torch.cat(titles), self.scale, masked)
