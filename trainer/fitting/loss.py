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
from trainer.fitting.shares import all_gather_with_grad, count_processes, own_share

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


def equal_titles(own: Tensor, candidates: Tensor, first: int = 0) -> Tensor:
    """Return which candidates repeat a row's own title: (b, c) bool.

    Args:
        own: (b,) int64, the label of each row's title.
        candidates: (c,) int64, the label of each candidate.
        first: the number of the first row's own title among the candidates. Those of the other rows follow, in order.
    """
    equal = own[:, None] == candidates[None, :]
    rows = torch.arange(len(own), device=own.device)
    equal[rows, rows + first] = False
    return equal


def ranking_loss(anchors: Tensor, candidates: Tensor, scale: float, masked: Tensor | None, first: int = 0) -> Tensor:
    """Return the mean over the rows of -log softmax(scale * cosine) at the row's own title.

    Args:
        anchors: (b, d) embeddings of the thumbnails, of any length.
        candidates: (c, d) embeddings of the titles: the batch's own titles, in order, then the negatives.
        scale: 1 / temperature.
        masked: (b, c) bool, the candidates to exclude; None to exclude no candidate.
        first: the number of the first row's own title among the candidates.
    """
    scores = normalize(anchors, dim=1) @ normalize(candidates, dim=1).T * scale
    if masked is not None:
        scores = scores.masked_fill(masked, -torch.inf)
    # Computed as in the library. It is accurate for losses near 0.
    return cross_entropy(scores, torch.arange(first, first + len(scores), device=scores.device))


class RankingLoss(nn.Module):
    """`ranking_loss` of a whole model, with the interface of losses in sentence-transformers.

    In a process group, each process embeds its share of the batch, and the titles of all shares are the candidates.
    The library averages the gradients of the processes; their mean is the gradient of the whole batch's loss.

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
        """Return the loss of one batch; in a process group, a loss whose mean over the processes is that loss.

        Args:
            sentence_features: model inputs of the anchors, the positives and, with mined negatives, the negatives. In a
                process group, only of this process's share of the batch, see `trainer.fitting.shares`.
            labels: (b, 1 or 2) int64, the labels of each row's title and of its negative, of the whole batch.
        """
        anchors: Tensor
        titles: list[Tensor]
        anchors, *titles = (self.model(features)["sentence_embedding"] for features in sentence_features)
        processes = count_processes()
        share = own_share(len(labels))
        if processes > 1:
            titles = [all_gather_with_grad(column)[: len(labels)] for column in titles]
        candidates = torch.cat(titles)
        own = labels[share.start : share.stop, 0]
        masked = equal_titles(own, labels.T.flatten(), share.start) if self.mask else None
        if processes == 1:
            return ranking_loss(anchors, candidates, self.scale, masked)
        # Every process waits for the gradients of all trained parameters, also of those that the loss does not reach.
        trained = [parameter.reshape(-1)[:1] for parameter in self.model.parameters() if parameter.requires_grad]
        nothing = (torch.cat(trained).sum() + anchors.sum() + candidates.sum()) * 0
        if not len(share):
            return nothing
        mean = ranking_loss(anchors[: len(share)], candidates, self.scale, masked, share.start)
        return mean * (len(share) * processes / len(labels)) + nothing
