"""Learner for runs that also train the towers, with the trainer of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import set_seed

from store.training import ExampleRow
from trainer.data import PictureSource
from trainer.fitting.fit import choose_parameters, fit_full_model
from trainer.fitting.lora import Adapters
from trainer.fitting.steps import FitModel, FitTask, OnStep, Triplets
from trainer.models import Encoder, named_parameters
from trainer.progress import Progress
from trainer.scoring import Scores, score_examples
from trainer.settings import TrainSettings

__all__ = ["WholeLearner"]


class WholeLearner:
    """Trains any parameters, or LoRA adapters, of the whole model.

    Args:
        encoder: the base model, or the champion to continue from. It is changed.
        changed: parameters that already differ from the base model.
        source: loads the thumbnails.
        settings: the run's settings.
        fit: trains the model, in this process or in several.

    Raises:
        BadSetting: the settings match no parameter or layer.
    """

    def __init__(
        self,
        encoder: Encoder,
        changed: Mapping[str, Tensor],
        source: PictureSource,
        settings: TrainSettings,
        fit: FitModel = fit_full_model,
    ) -> None:
        self._encoder, self._source, self._settings, self._fit = encoder, source, settings, fit
        self.chooses = False
        # Adapters start with random weights, which must not depend on previous random numbers.
        set_seed(settings.seed)
        self._adapters: Adapters | None = None
        # Adapters do not change the parameters below them, so `changed` is saved unchanged.
        self._tensors = dict(changed)
        if settings.train == "lora":
            self._adapters = Adapters(encoder.model, settings)
            self._kept = list(self._adapters.tensors())
        else:
            self._kept = sorted({*choose_parameters(encoder.model, settings.train), *changed})
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in encoder.model.parameters()]
        self.total = sum(size for size, _ in sizes)
        self.trainable = sum(size for size, trained in sizes if trained)

    def settle(self, rows: Triplets) -> dict[str, float | None]:
        """Nothing is chosen: a training of a whole model takes too long to repeat."""
        return {}

    def fit(self, rows: Triplets, on_step: OnStep) -> None:
        """Train. Adapters are merged afterwards, so that the scored model equals the model that is loaded later."""
        self._fit(FitTask(self._encoder, rows, self._source, self._settings), on_step)
        wanted = set(self._kept)
        self._tensors |= {
            name: parameter.detach().cpu().clone()
            for name, parameter in named_parameters(self._encoder.model)
            if name in wanted
        }
        if self._adapters is not None:
            self._adapters.merge()

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score the trained model."""
        return score_examples(self._encoder, examples, self._source, progress, "the trained model")

    def tensors(self) -> dict[str, Tensor]:
        """Return the trained adapters or parameters, and the parameters that already differed from the base model."""
        return self._tensors

    def whole_model(self) -> SentenceTransformer:
        """Return the trained model."""
        return self._encoder.model
