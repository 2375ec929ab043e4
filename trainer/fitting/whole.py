"""What a run trains when the towers learn too: the whole model, by sentence-transformers' own trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import set_seed

from store.training import ExampleRow
from trainer.data import PictureSource
from trainer.fitting.fit import choose_parameters, fit_full_model
from trainer.fitting.lora import Adapters
from trainer.fitting.steps import Step, Triplets
from trainer.models import Encoder, named_parameters
from trainer.progress import Progress
from trainer.scoring import Scores, score_examples
from trainer.settings import TrainSettings

__all__ = ["WholeLearner"]


class WholeLearner:
    """Trains any parameters, or LoRA adapters, by running the whole model.

    Args:
        encoder: the base, or the champion to go on from; it is changed.
        changed: parameters that differ from the base already.
        source: where the pictures come from.
        settings: the run's.

    Raises:
        BadSetting: nothing matches what is to be trained.
    """

    def __init__(
        self, encoder: Encoder, changed: Mapping[str, Tensor], source: PictureSource, settings: TrainSettings
    ) -> None:
        self._encoder, self._source, self._settings = encoder, source, settings
        # Adapters begin at random: the same whatever was loaded and encoded on the way.
        set_seed(settings.seed)
        self._adapters: Adapters | None = None
        # Adapters leave the weights that they are on as they are: those are kept as they came.
        self._tensors = dict(changed)
        if settings.train == "lora":
            self._adapters = Adapters(encoder.model, settings)
            self._kept = list(self._adapters.tensors())
        else:
            self._kept = sorted({*choose_parameters(encoder.model, settings.train), *changed})
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in encoder.model.parameters()]
        self.total = sum(size for size, _ in sizes)
        self.trainable = sum(size for size, trained in sizes if trained)

    def fit(self, rows: Triplets, on_step: Callable[[Step], None]) -> None:
        """Train; adapters are merged afterwards, so that what is scored is what is loaded again."""
        fit_full_model(self._encoder, rows, self._source, self._settings, on_step)
        wanted = set(self._kept)
        self._tensors |= {
            name: parameter.detach().cpu().clone()
            for name, parameter in named_parameters(self._encoder.model)
            if name in wanted
        }
        if self._adapters is not None:
            self._adapters.merge()

    def score(self, examples: Sequence[ExampleRow], progress: Progress) -> Scores:
        """Score what was trained."""
        return score_examples(self._encoder, examples, self._source, progress, "the tuned model")

    def tensors(self) -> dict[str, Tensor]:
        """What was trained, adapters or parameters, and the parameters that differ from the base's already."""
        return self._tensors

    def whole_model(self) -> SentenceTransformer:
        """The trained model."""
        return self._encoder.model
