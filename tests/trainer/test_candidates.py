"""Candidates on held-out rows: fitted without these rows, and not better than chance if nothing can be learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainer.fitting.candidates import Candidate, held_out_ranks
from trainer.fitting.cca import Strength
from trainer.fitting.fitter import UNCHANGED, Fitter, fit_beside_reader, reader_held_out
from trainer.fitting.projections import PooledTriplets
from trainer.fitting.ridge import unit
from trainer.fitting.threads import one_thread
from trainer.models import TEXT, VISUAL, Projections
from trainer.settings import TrainSettings

N, D = 120, 8
GROUPS = [str(n) for n in range(N)]
PROJECTIONS = Projections(torch.eye(D), torch.eye(D))


def rows(*, agree: bool) -> PooledTriplets:
    """Titles, and thumbnails that are rotated titles with noise or, without `agree`, random."""
    random = np.random.default_rng(5)
    titles = unit(random.normal(size=(N, D)))
    turned, _ = np.linalg.qr(np.eye(D) + 0.8 * random.normal(size=(D, D)) / np.sqrt(D))
    pictures = unit(titles @ turned.T + 0.1 * random.normal(size=(N, D)) if agree else random.normal(size=(N, D)))
    at = np.arange(N)
    return PooledTriplets(pictures.astype(np.float32), titles.astype(np.float32), at.astype(np.int64), at, at, None)


def fitter(what: str) -> Fitter:
    return Fitter(PROJECTIONS, (TEXT,) if what == "ridge" else (VISUAL, TEXT), TrainSettings(train=what), "cpu")


def recall(candidate: Candidate) -> float:
    return float((held_out_ranks(candidate, GROUPS) == 1).mean())


@pytest.mark.parametrize("what", ["cca", "ridge"])
def test_a_fitted_candidate_is_better_on_held_out_rows(what: str) -> None:
    pairs = rows(agree=True)
    assert recall(Candidate(pairs, PROJECTIONS, fitter(what))) > recall(Candidate(pairs, PROJECTIONS)) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["cca", "ridge"])
def test_on_random_rows_recall_is_at_chance(what: str) -> None:
    pairs = rows(agree=False)
    assert recall(Candidate(pairs, PROJECTIONS, fitter(what))) < 0.05
    beside = Candidate(pairs, PROJECTIONS, fitter("cca"))
    assert recall(Candidate(pairs, PROJECTIONS, fitter(what), beside)) < 0.05


def test_an_unfitted_model_has_equal_ranks_in_every_repeat() -> None:
    candidate = Candidate(rows(agree=True), PROJECTIONS)
    ranks = held_out_ranks(candidate, GROUPS)
    assert (ranks[0] == ranks[1]).all()


def test_the_informative_model_decides() -> None:
    known, unknown = rows(agree=True), rows(agree=False)
    right = Candidate(replace(known, pictures=known.titles), PROJECTIONS)
    assert recall(Candidate(unknown, PROJECTIONS, None, right)) > 0.95
    wordless = Candidate(replace(known, pictures=np.zeros_like(known.pictures)), PROJECTIONS)
    assert recall(Candidate(known, PROJECTIONS, None, wordless)) == recall(Candidate(known, PROJECTIONS))


@pytest.mark.slow
def test_the_reader_stays_untrained_if_training_makes_it_worse_on_held_out_rows() -> None:
    known, wide = rows(agree=False), 2 * N
    random = np.random.default_rng(7)
    titles = unit(random.normal(size=(N, wide)))
    pictures = unit(titles + 0.05 * random.normal(size=(N, wide)))
    read = replace(known, pictures=pictures.astype(np.float32), titles=titles.astype(np.float32))
    # With more dimensions than rows and hardly any penalty, the maps fit the training rows alone.
    settings, projections = TrainSettings(train="cca"), Projections(torch.eye(wide), torch.eye(wide))
    reader = Fitter(projections, (VISUAL, TEXT), settings, "cpu", strength=Strength(1e-4, 0))
    nothing_learnt, readers = Fitter.none(PROJECTIONS), reader_held_out(reader, read, GROUPS)
    weights, chosen = fit_beside_reader(nothing_learnt, known, readers, GROUPS)
    assert (chosen.strength, round(weights.second, 1)) == (UNCHANGED, 1.0)

    turned = Fitter(PROJECTIONS, (VISUAL, TEXT), settings, "cpu")
    readers = reader_held_out(turned, rows(agree=True), GROUPS)
    _, chosen = fit_beside_reader(nothing_learnt, known, readers, GROUPS)
    assert chosen.strength not in (None, UNCHANGED), "this reader is better trained"


@pytest.mark.slow
@pytest.mark.parametrize("what", ["cca", "ridge", "projection"])
def test_folds_in_threads_give_the_results_of_one_thread(what: str) -> None:
    """With the reader, and bit for bit: the cosines of `reader_held_out` show every difference of a projection."""
    settings = TrainSettings(train=what, epochs=2) if what == "projection" else TrainSettings(train=what)
    model = Fitter(PROJECTIONS, (TEXT,) if what == "ridge" else (VISUAL, TEXT), settings, "cpu")
    pairs, read = rows(agree=True), rows(agree=False)
    found = []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        beside = Candidate(read, PROJECTIONS, fitter("cca"))
        ranks = held_out_ranks(Candidate(pairs, PROJECTIONS, model, beside), GROUPS)
        with one_thread():
            held_out = reader_held_out(model, pairs, GROUPS)
        found.append((ranks.tobytes(), [(one.reader.strength, one.cosines.tobytes()) for one in held_out]))
    torch.set_num_threads(before)
    assert found[0] == found[1]
