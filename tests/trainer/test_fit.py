"""Training compared with the library's trainer, and which parameters change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.trainer.oracle import NAMES, Drawn, recipe
from tests.trainer.tiny import load_encoder
from trainer.errors import BadSetting
from trainer.fitting import FitTask, Step, fit_full_model
from trainer.fitting.fit import choose_parameters
from trainer.fitting.steps import Triplets
from trainer.models import Encoder
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings

ROWS = Triplets(NAMES, NAMES, [*NAMES[7:], *NAMES[:7]])
SETTINGS = TrainSettings(train="projection", epochs=3, batch_size=8, lr=1e-2, seed=7, mask=False)


class Counted(Drawn):
    """Records the largest number of thumbnails requested at once."""

    most = 0

    def load(self, digests: Sequence[str]) -> list[Image.Image]:
        self.most = max(self.most, len(digests))
        return super().load(digests)


def run(encoder: Encoder, rows: Triplets, settings: TrainSettings) -> list[Step]:
    steps: list[Step] = []
    with quiet_libraries():
        choose_parameters(encoder.model, settings.train)
        fit_full_model(FitTask(encoder, rows, Drawn(), settings), steps.append)
    return steps


@pytest.mark.slow
@pytest.mark.parametrize("with_negatives", [True, False])
def test_steps_equal_those_of_the_recipe(encoder: Encoder, tiny_clip: Path, with_negatives: bool) -> None:
    rows = ROWS if with_negatives else Triplets(NAMES, NAMES, None)
    steps = run(encoder, rows, SETTINGS)
    theirs = recipe(tiny_clip, rows, Drawn().load(NAMES), SETTINGS)
    assert [step.loss for step in steps] == pytest.approx(theirs.losses, rel=1e-6)
    assert [step.learning_rate for step in steps] == theirs.rates
    assert [step.step for step in steps] == list(range(1, 10))
    assert steps[-1].epoch == 3.0
    ours, tuned = encoder.model.state_dict(), theirs.model.state_dict()
    assert all(torch.allclose(ours[name], tuned[name], atol=1e-7) for name in ours)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_losses_after_any_earlier_work(tiny_clip: Path) -> None:
    first = run(load_encoder(str(tiny_clip), "cpu"), ROWS, SETTINGS)
    torch.rand(17)
    assert run(load_encoder(str(tiny_clip), "cpu"), ROWS, SETTINGS) == first
    other = run(
        load_encoder(str(tiny_clip), "cpu"),
        ROWS,
        TrainSettings(train="projection", epochs=3, batch_size=8, lr=1e-2, seed=8),
    )
    assert [step.loss for step in other] != [step.loss for step in first]


@pytest.mark.slow
def test_training_fits_its_rows(encoder: Encoder) -> None:
    steps = run(encoder, ROWS, TrainSettings(train="all", epochs=15, batch_size=20, lr=3e-3))
    assert steps[-1].loss < 0.7 * steps[0].loss


@pytest.mark.slow
def test_only_the_chosen_parameters_change(encoder: Encoder) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    run(encoder, ROWS, SETTINGS)
    changed = {name for name, tensor in encoder.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"0.model.visual_projection.weight", "0.model.text_projection.weight"}


@pytest.mark.slow
def test_thumbnails_are_decoded_batch_by_batch(encoder: Encoder) -> None:
    source = Counted()
    with quiet_libraries():
        choose_parameters(encoder.model, "projection")
        fit_full_model(FitTask(encoder, ROWS, source, SETTINGS), lambda _step: None)
    assert source.most == 8


@pytest.mark.slow
def test_the_model_card_data_contains_no_rows(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(encoder, ROWS, SETTINGS)
    assert not any(name in repr(vars(encoder.model.model_card_data)) for name in NAMES)
    assert list(tmp_path.iterdir()) == []


def test_parameters_are_chosen_by_a_regular_expression(encoder: Encoder) -> None:
    model = encoder.model
    everything = [name for name, _ in model.named_parameters()]
    assert choose_parameters(model, "all") == everything
    assert choose_parameters(model, "projection") == [name for name in everything if "projection" in name]
    chosen = choose_parameters(model, r"layers\.1\..*mlp")
    assert chosen == [name for name in everything if ".layers.1." in name and ".mlp." in name]
    assert chosen == [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_an_expression_that_matches_nothing_shows_some_names(encoder: Encoder) -> None:
    with pytest.raises(BadSetting, match=r"'nothing-like-it' matches none of the \d+ parameters, such as 0\.model"):
        choose_parameters(encoder.model, "nothing-like-it")
