"""LoRA: adapters are added, trained, merged, and restored from a run's tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from tests.trainer.oracle import NAMES, Drawn
from tests.trainer.tiny import load_encoder
from trainer.errors import BadSetting, RunUnusable
from trainer.fitting import FitTask, fit_full_model, merge_adapters
from trainer.fitting.lora import Adapters
from trainer.fitting.steps import Triplets
from trainer.models import VISUAL, Encoder
from trainer.settings import TrainSettings

SETTINGS = TrainSettings(train="lora", lora_rank=2, lora_alpha=8, lr=1e-2, batch_size=8)
ROWS = Triplets(NAMES, NAMES, None)


pytestmark = pytest.mark.usefixtures("quiet")


def trained(encoder: Encoder, settings: TrainSettings = SETTINGS) -> tuple[Adapters, dict[str, Tensor]]:
    """Adapters that were trained, and a copy of their weights."""
    adapters = Adapters(encoder.model, settings)
    fit_full_model(FitTask(encoder, ROWS, Drawn(), settings), lambda _step: None)
    return adapters, {name: tensor.detach().clone() for name, tensor in adapters.tensors().items()}


def embedded(model: SentenceTransformer) -> list[Any]:
    images = Drawn().load(NAMES)
    return [model.encode(inputs, show_progress_bar=False) for inputs in (list(images), NAMES)]


def fresh(folder: Path) -> SentenceTransformer:
    return load_encoder(str(folder), "cpu").model


@pytest.mark.slow
def test_only_adapters_are_trained_and_they_start_without_effect(encoder: Encoder) -> None:
    base = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    before = embedded(encoder.model)
    adapters = Adapters(encoder.model, SETTINGS)
    assert all(np.array_equal(a, b) for a, b in zip(before, embedded(encoder.model), strict=True))
    names = adapters.tensors()
    assert all(".lora_A." in name or ".lora_B." in name for name in names)
    # Four attention layers have queries and values, and there are two projections; two matrices of rank 2 each.
    assert len(names) == 2 * (2 * 4 + 2)
    assert {min(tensor.shape) for tensor in names.values()} == {2}
    fit_full_model(FitTask(encoder, ROWS, Drawn(), SETTINGS), lambda _step: None)
    after = encoder.model.state_dict()
    frozen = {name.replace(".base_layer", "").replace(".base_model.model", ""): name for name in after}
    assert all(torch.equal(after[frozen[name]], tensor) for name, tensor in base.items()), "the base is frozen"


@pytest.mark.slow
def test_the_merged_model_is_an_ordinary_model_with_equal_vectors(encoder: Encoder, tiny_clip: Path) -> None:
    start = embedded(encoder.model)
    adapters, _ = trained(encoder)
    adapted = embedded(encoder.model)
    assert not np.allclose(adapted[0], start[0], atol=1e-3), "the training has an effect"
    adapters.merge()
    merged = embedded(encoder.model)
    assert all(np.allclose(a, b, rtol=0, atol=1e-5) for a, b in zip(adapted, merged, strict=True))
    assert list(encoder.model.state_dict()) == list(fresh(tiny_clip).state_dict())


@pytest.mark.slow
def test_merging_the_adapters_of_a_run_gives_its_model(encoder: Encoder, tiny_clip: Path) -> None:
    adapters, tensors = trained(encoder)
    adapters.merge()
    loaded = fresh(tiny_clip)
    merge_adapters(loaded, SETTINGS, tensors)
    mine, theirs = encoder.model.state_dict(), loaded.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
def test_parameters_that_differed_at_the_start_are_restored(encoder: Encoder, tiny_clip: Path) -> None:
    moved = encoder.model.state_dict()[VISUAL]
    moved += 0.5
    kept = {VISUAL: moved.clone()}
    adapters, tensors = trained(encoder)
    adapters.merge()
    loaded = fresh(tiny_clip)
    merge_adapters(loaded, SETTINGS, {**kept, **tensors})
    mine, theirs = encoder.model.state_dict(), loaded.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("targets", ["no_such_layer", "q_proj", r".*layer_norm1", r".*patch_embedding.*norm"])
def test_targets_without_a_linear_layer_are_refused(encoder: Encoder, targets: str) -> None:
    """As in peft, only whole names match, and a normalisation layer can't be adapted."""
    with pytest.raises(BadSetting) as caught:
        Adapters(encoder.model, TrainSettings(train="lora", lora_targets=targets))
    assert f"--lora-targets {targets!r} matches no linear layer" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_tensors_that_do_not_match_are_refused(encoder: Encoder, tiny_clip: Path) -> None:
    _, tensors = trained(encoder)
    name = next(iter(tensors))
    less = {other: tensor for other, tensor in tensors.items() if other != name}
    wide = {**tensors, name: torch.zeros(3, 3)}
    strange = {**tensors, "0.model.no_such": torch.zeros(1)}
    for wrong in (less, wide, strange, {}):
        with pytest.raises(RunUnusable, match=r"another run$"):
            merge_adapters(fresh(tiny_clip), SETTINGS, wrong)
    with pytest.raises(RunUnusable, match=r"another run$"):
        merge_adapters(fresh(tiny_clip), TrainSettings(train="lora", lora_rank=3), tensors)
    with pytest.raises(RunUnusable, match="adapters do not match"):
        merge_adapters(fresh(tiny_clip), TrainSettings(train="lora", lora_targets="no_such_layer"), tensors)
