"""Training projections on cached features gives each step of the library's trainer on the whole model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import thumbtune.demo
from tests.trainer.oracle import NAMES, Drawn, pooled, recipe
from tests.trainer.tiny import COLOURS, SHAPES, load_encoder
from trainer.fitting import FitTask, Step, fit_full_model
from trainer.fitting.fit import choose_parameters
from trainer.fitting.projections import fit_projections
from trainer.fitting.steps import Triplets
from trainer.models import TEXT, VISUAL, Encoder, Projections
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings

MINED = Triplets(NAMES, NAMES, [*NAMES[7:], *NAMES[:7]])
# Eight of 20 rows a batch: the last batch of an epoch has four.
SETTINGS = TrainSettings(train="projection", epochs=3, batch_size=8, lr=1e-2, seed=7, mask=False)
# Titles that occur again: in another row, as a negative, or with other capitals.
REPEATED = [*NAMES[:12], *NAMES[:4], *(name.upper() for name in NAMES[:4])]
TWICE = Triplets(NAMES, REPEATED, [*REPEATED[9:], *REPEATED[:9]])
BOTH = [VISUAL, TEXT]


def fitted(
    encoder: Encoder, rows: Triplets, settings: TrainSettings, names: Sequence[str] = BOTH
) -> tuple[list[Step], Projections]:
    """Train the encoder's projections by themselves."""
    images = Drawn().load(rows.pictures)
    projections = Projections.of(encoder.model)
    assert projections is not None
    steps: list[Step] = []
    inputs = pooled(encoder.model, rows, images)
    return steps, fit_projections(projections, inputs, names, settings, device="cpu", on_step=steps.append)


@pytest.mark.slow
@pytest.mark.parametrize("train", ["projection", "visual_projection", "text_projection"])
@pytest.mark.parametrize("mined", [True, False])
def test_steps_equal_those_of_the_recipe(encoder: Encoder, tiny_clip: Path, mined: bool, train: str) -> None:
    """Relative losses and weights within 1e-5, equal learning rates; three epochs in the library's order."""
    rows, settings = MINED if mined else replace(MINED, negatives=None), replace(SETTINGS, train=train)
    names = [name for name in BOTH if train in name]
    steps, projections = fitted(encoder, rows, settings, names)
    expected = recipe(tiny_clip, rows, Drawn().load(rows.pictures), settings)
    assert [step.loss for step in steps] == pytest.approx(expected.losses, rel=1e-5)
    assert [step.learning_rate for step in steps] == expected.rates
    assert [step.step for step in steps] == list(range(1, 10))
    assert [step.epoch for step in steps] == pytest.approx([n / 3 for n in range(1, 10)])
    theirs = expected.model.state_dict()
    for name, weight in projections.tensors().items():
        assert torch.allclose(weight, theirs[name], rtol=0, atol=1e-5), name
        assert torch.equal(weight, encoder.model.state_dict()[name]) == (name not in names), (
            "only the chosen projections change"
        )


@pytest.mark.slow
def test_steps_on_the_demo_encoder_equal_those_of_the_recipe() -> None:
    """40 drawn pictures, a trained encoder, the recipe's learning rate and batches of 16."""
    folder = Path(thumbtune.demo.__file__).parent / "encoder"
    names = [f"{colour} {shape} {n}" for n in range(2) for shape in SHAPES[:2] for colour in COLOURS]
    rows = Triplets(names, names, [*names[11:], *names[:11]])
    settings = TrainSettings(train="projection", lr=1e-4, mask=False, seed=3)
    with quiet_libraries():
        steps, projections = fitted(load_encoder(str(folder), "cpu"), rows, settings)
    expected = recipe(folder, rows, Drawn().load(names), settings)
    assert len(steps) == 6
    assert [step.loss for step in steps] == pytest.approx(expected.losses, rel=1e-5)
    assert [step.learning_rate for step in steps] == expected.rates
    theirs = expected.model.state_dict()
    assert all(
        torch.allclose(weight, theirs[name], rtol=0, atol=1e-5) for name, weight in projections.tensors().items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("mined", [True, False])
def test_masked_steps_equal_those_of_the_whole_model(encoder: Encoder, tiny_clip: Path, mined: bool) -> None:
    rows = TWICE if mined else replace(TWICE, negatives=None)
    settings = replace(SETTINGS, mask=True)
    steps, projections = fitted(encoder, rows, settings)
    unmasked, _ = fitted(encoder, rows, SETTINGS)
    whole: list[Step] = []
    with quiet_libraries():
        other = load_encoder(str(tiny_clip), "cpu")
        choose_parameters(other.model, "projection")
        fit_full_model(FitTask(other, rows, Drawn(), settings), whole.append)
    assert [step.loss for step in steps] == pytest.approx([step.loss for step in whole], rel=1e-5)
    assert [step.learning_rate for step in steps] == [step.learning_rate for step in whole]
    assert all(step.loss < plain.loss for step, plain in zip(steps[:2], unmasked, strict=False)), (
        "the mask has an effect"
    )
    theirs = other.model.state_dict()
    assert all(
        torch.allclose(weight, theirs[name], rtol=0, atol=1e-5) for name, weight in projections.tensors().items()
    )


def test_without_equal_titles_the_mask_changes_no_step(encoder: Encoder) -> None:
    rows = Triplets(NAMES, NAMES, [f"{name} 1" for name in NAMES])
    masked, unmasked = (fitted(encoder, rows, replace(SETTINGS, mask=mask)) for mask in (True, False))
    assert masked[0] == unmasked[0]
    assert all(
        torch.equal(a, b) for a, b in zip(masked[1].tensors().values(), unmasked[1].tensors().values(), strict=True)
    )


def test_equal_titles_train_nothing_and_stay_finite(encoder: Encoder) -> None:
    rows = Triplets(NAMES, ["one title"] * 20, ["ONE title"] * 20)
    steps, projections = fitted(encoder, rows, replace(SETTINGS, mask=True))
    assert [step.loss for step in steps] == [0] * 9
    before = Projections.of(encoder.model)
    assert before is not None
    assert torch.equal(projections.visual, before.visual)
    assert torch.equal(projections.text, before.text)


def test_the_initial_projections_are_not_changed(encoder: Encoder) -> None:
    start = Projections.of(encoder.model)
    assert start is not None
    kept = {name: weight.clone() for name, weight in start.tensors().items()}
    inputs = pooled(encoder.model, MINED, Drawn().load(NAMES))
    copies = np.array(inputs.pictures), np.array(inputs.titles)
    steps: list[Step] = []
    first = fit_projections(start, inputs, BOTH, SETTINGS, device="cpu", on_step=steps.append)
    assert all(torch.equal(weight, kept[name]) for name, weight in start.tensors().items())
    assert not any(weight.requires_grad for weight in (*start.tensors().values(), *first.tensors().values()))
    assert np.array_equal(np.asarray(inputs.pictures), copies[0])
    assert np.array_equal(np.asarray(inputs.titles), copies[1])
    again: list[Step] = []
    torch.rand(17)
    fit_projections(start, inputs, BOTH, SETTINGS, device="cpu", on_step=again.append)
    assert again == steps, "only the seed determines the order"


def test_another_seed_changes_the_order_of_rows(encoder: Encoder) -> None:
    losses = [[step.loss for step in fitted(encoder, MINED, replace(SETTINGS, seed=seed))[0]] for seed in (7, 8)]
    assert losses[0] != losses[1]


def test_training_fits_its_rows(encoder: Encoder) -> None:
    steps, _ = fitted(encoder, MINED, replace(SETTINGS, epochs=40, batch_size=20))
    assert steps[-1].loss < 0.7 * steps[0].loss


def test_an_error_from_a_step_ends_the_training(encoder: Encoder) -> None:
    def refuse(step: Step) -> None:
        raise ValueError(f"step {step.step}")

    projections = Projections.of(encoder.model)
    assert projections is not None
    inputs = pooled(encoder.model, MINED, Drawn().load(NAMES))
    with pytest.raises(ValueError, match="step 1"):
        fit_projections(projections, inputs, BOTH, SETTINGS, device="cpu", on_step=refuse)


def test_a_thumbnail_of_several_videos_is_one_row_of_features(encoder: Encoder) -> None:
    """Anchors are numbers: rows may share a thumbnail or a title, and have any order."""
    images: list[Image.Image] = Drawn().load(NAMES)
    apart = pooled(encoder.model, Triplets([*NAMES, *NAMES[:4]], [*NAMES, *NAMES[4:8]], None), [*images, *images[:4]])
    anchor = np.array([*range(20), *range(4)], dtype=np.intp)
    shared = replace(apart, pictures=apart.pictures[np.arange(20)], anchor=anchor)
    projections = Projections.of(encoder.model)
    assert projections is not None
    found: list[list[float]] = []
    for inputs in (apart, shared):
        steps: list[Step] = []
        fit_projections(projections, inputs, BOTH, SETTINGS, device="cpu", on_step=steps.append)
        found.append([step.loss for step in steps])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
