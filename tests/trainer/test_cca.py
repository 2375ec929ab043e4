"""The canonical correlation maps against an independent solution, and the choice of their strength."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import inv, sqrtm, svd

from tests.trainer.test_ridge import aligned
from trainer.fitting.cca import Cca, Strength, choose_strength
from trainer.fitting.ridge import unit
from trainer.scoring import candidate_ranks

Matrix = NDArray[np.float64]


def cosines(pictures: Matrix, titles: Matrix) -> Matrix:
    return unit(pictures) @ unit(titles).T


@pytest.mark.parametrize("prior", [0, 1])
@pytest.mark.parametrize("n", [4, 40], ids=["fewer rows than dimensions", "more rows"])
def test_the_maps_are_those_of_the_definition(n: int, prior: int) -> None:
    pictures, titles = aligned(n, 12, 0)
    (seen, said), penalty = aligned(7, 12, 1), 0.05
    ridge = penalty * np.eye(12)
    left, right = (inv(sqrtm(side.T @ side / n + ridge).real) for side in (pictures, titles))
    turned, lengths, other = svd(left @ (pictures.T @ titles / n + prior * ridge) @ right)
    expected = cosines(seen @ left @ turned * lengths**1.5, said @ right @ other.T * lengths**1.5)
    cca, strength = Cca(pictures, titles), Strength(penalty, prior)
    of_pictures, of_titles = cca.maps(strength)
    assert of_pictures.shape == of_titles.shape == (12, 12)
    assert np.allclose(cosines(seen @ of_pictures, said @ of_titles), expected, atol=1e-6)
    assert np.allclose(cosines(*cca.mapped(cca.coordinates(seen, said), strength)), expected, atol=1e-6)


def test_a_large_penalty_with_the_prior_gives_the_base_model() -> None:
    pictures, titles = aligned(20, 8, 0)
    found = Cca(pictures, titles).maps(Strength(1e9, 1))
    assert np.allclose(cosines(pictures @ found[0], titles @ found[1]), cosines(pictures, titles), atol=1e-6)


def test_both_directions_improve_on_held_out_rows() -> None:
    pictures, titles = aligned(260, 8, 3, noise=0.3)
    labels = np.arange(200)
    strength = choose_strength(pictures[:200], titles[:200], [str(n) for n in range(200)], labels)
    assert strength is not None
    maps = Cca(pictures[:200], titles[:200]).maps(strength)
    new = [unit(side[200:] @ found) for side, found in zip((pictures, titles), maps, strict=True)]
    old, own = (pictures[200:], titles[200:]), np.arange(60)
    for one, other in ((0, 1), (1, 0)):
        before, after = (candidate_ranks(sides[one], sides[other], own, own) for sides in (old, new))
        assert (after == 1).mean() > (before == 1).mean() + 0.2


def test_no_strength_is_chosen_for_a_perfect_model_or_a_single_group() -> None:
    pictures, titles = aligned(40, 8, 3)
    assert choose_strength(titles, titles, [str(n) for n in range(40)], np.arange(40)) is None
    assert choose_strength(pictures, titles, ["a"] * 40, np.arange(40)) is None
