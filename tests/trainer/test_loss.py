"""The loss: equal to the library's without masking; with masking, repetitions of a row's own title are excluded."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from torch import Tensor, nn

from trainer.fitting.loss import RankingLoss, equal_titles, ranking_loss, title_labels


def unit(*degrees: float) -> Tensor:
    """Vectors in the plane, by their angles."""
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


@pytest.mark.parametrize("scale", [1.0, 20.0, 100.0])
@pytest.mark.parametrize("negatives", [0, 6])
def test_without_a_mask_the_loss_equals_that_of_the_library(negatives: int, scale: float) -> None:
    torch.manual_seed(1)
    anchors, candidates = torch.randn(6, 8), torch.randn(6 + negatives, 8)
    theirs = MultipleNegativesRankingLoss(SentenceTransformer(modules=[nn.Identity()]), scale=scale)
    expected = theirs.compute_loss_from_embeddings([anchors, *torch.split(candidates, 6)], torch.empty(0))
    assert ranking_loss(anchors, candidates, scale, None).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_masked_candidate_computed_by_hand() -> None:
    """Row 0 (0 degrees) among its own title (60), row 1's (90), and negatives at 0 and 180: the one at 0 is masked."""
    anchors, candidates = unit(0, 90) * 3, unit(60, 90, 0, 180) * 0.1
    masked = torch.tensor([[False, False, True, False], [False, False, False, False]])
    first = -math.log(math.exp(2 * 0.5) / (math.exp(2 * 0.5) + math.exp(0) + math.exp(2 * -1)))
    second = -math.log(math.exp(2 * 1) / (math.exp(2 * math.sqrt(0.75)) + math.exp(2 * 1) + math.exp(0) + math.exp(0)))
    found = ranking_loss(anchors, candidates, 2.0, masked).item()
    assert found == pytest.approx((first + second) / 2, rel=1e-6)
    assert ranking_loss(anchors, candidates, 2.0, None).item() > found


def test_titles_are_equal_after_normalisation() -> None:
    composed, in_parts = "caf\u00e9", "cafe\u0301"
    labels = title_labels(["Big  Trees", "big trees ", composed, in_parts, "cafe"])
    assert labels["Big  Trees"] == labels["big trees "]
    assert labels[composed] == labels[in_parts]
    assert len(set(labels.values())) == 3


def test_repeated_titles_are_masked_except_in_their_own_column() -> None:
    own = torch.tensor([5, 7, 5])
    candidates = torch.tensor([5, 7, 5, 7, 9, 5])
    assert equal_titles(own, candidates).tolist() == [
        [False, False, True, False, False, True],
        [False, False, False, True, False, False],
        [True, False, False, False, False, True],
    ]


def test_without_equal_titles_a_mask_changes_nothing() -> None:
    torch.manual_seed(2)
    anchors, candidates = torch.randn(4, 8), torch.randn(8, 8)
    masked = equal_titles(torch.arange(4), torch.arange(8))
    assert not masked.any()
    assert torch.equal(ranking_loss(anchors, candidates, 20.0, masked), ranking_loss(anchors, candidates, 20.0, None))


def test_a_batch_with_one_distinct_title_has_loss_0_and_no_gradient() -> None:
    """Everything but each row's own title is masked: there are no other candidates."""
    anchors = unit(10, 50, 200).requires_grad_()
    candidates = unit(20, 80, 300, 20, 100, 250).requires_grad_()
    masked = equal_titles(torch.zeros(3, dtype=torch.int64), torch.zeros(6, dtype=torch.int64))
    loss = ranking_loss(anchors, candidates, 20.0, masked)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert anchors.grad is not None
    assert candidates.grad is not None
    assert anchors.grad.tolist() == [[0, 0]] * 3
    assert candidates.grad.tolist() == [[0, 0]] * 6


def test_a_masked_candidate_has_no_gradient() -> None:
    anchors, candidates = unit(10), unit(20, 15, 90).requires_grad_()
    ranking_loss(anchors, candidates, 20.0, torch.tensor([[False, True, False]])).backward()  # type: ignore[no-untyped-call]
    assert candidates.grad is not None
    assert torch.isfinite(candidates.grad).all()
    assert candidates.grad[1].tolist() == [0, 0]
    assert candidates.grad[2].abs().sum() > 0


class _Given(nn.Module):
    """Returns its input: a model whose embeddings the test chooses."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["vectors"]}


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("mined", [True, False])
def test_the_loss_module_takes_labels_by_column(mask: bool, mined: bool) -> None:
    """Rows 0 and 2 have one title, which is row 1's negative too."""
    torch.manual_seed(3)
    columns = [torch.randn(3, 4) for _ in range(3 if mined else 2)]
    labels = torch.tensor([[1, 8], [2, 1], [1, 9]])[:, : len(columns) - 1]

    def features() -> Iterator[dict[str, Tensor]]:
        return ({"vectors": column} for column in columns)

    found = RankingLoss(_Given(), 20.0, mask)(features(), labels)  # type: ignore[arg-type]
    masked = torch.zeros(3, 3 * (len(columns) - 1), dtype=torch.bool)
    masked[0, 2] = masked[2, 0] = True
    if mined:
        masked[0, 4] = masked[2, 4] = True
    assert torch.equal(found, ranking_loss(columns[0], torch.cat(columns[1:]), 20.0, masked if mask else None))
    assert not torch.equal(found, ranking_loss(columns[0], torch.cat(columns[1:]), 20.0, None if mask else masked))


def test_titles_of_one_group_have_one_label() -> None:
    """Two titles of one thumbnail are both correct."""
    labels = title_labels(["Old name", "New name", "Other", "OTHER"], {"Old name": "g1", "New name": "g1"})
    assert labels["Old name"] == labels["New name"] != labels["Other"] == labels["OTHER"]
