"""Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685) with peft: insert, train, merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from torch import Tensor

from trainer.artifacts import put_tensors
from trainer.errors import BadSetting, RunUnusable
from trainer.models import input_modules, named_parameters
from trainer.settings import TrainSettings

__all__ = ["Adapters", "merge_adapters"]


class Adapters:
    """Adapters in a model. The model's own weights are frozen; only the adapters are trained.

    Args:
        model: the model, which is changed in place. `merge` makes it an ordinary model again.
        settings: rank, alpha and target layers.

    Raises:
        BadSetting: the target pattern matches no linear layer.
    """

    def __init__(self, model: SentenceTransformer, settings: TrainSettings) -> None:
        self._model = model
        self._cores = [module for module in input_modules(model) if hasattr(module, "model")]
        config = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # a scale; peft divides it by the rank
            target_modules=settings.lora_targets,
            lora_dropout=0.0,
            bias="none",
        )
        with _mapped(settings.lora_targets):
            self._wrapped = [get_peft_model(module.model, config) for module in self._cores]
        # Parameters outside the adapted networks, such as an added projection, are not trained.
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".lora_" in name)

    def tensors(self) -> dict[str, Tensor]:
        """Return {parameter name: weights} of the adapters."""
        return {name: tensor for name, tensor in named_parameters(self._model) if ".lora_" in name}

    def merge(self) -> None:
        """Add the adapters to the model's weights, and remove them."""
        for module, wrapped in zip(self._cores, self._wrapped, strict=True):
            merged: Any = wrapped.merge_and_unload()
            module.model = merged


def merge_adapters(model: SentenceTransformer, settings: TrainSettings, tensors: Mapping[str, Tensor]) -> None:
    """Insert a run's adapters into its base model and merge them, in place.

    Args:
        model: the base model.
        settings: the run's settings.
        tensors: the adapters, and the parameters that already differed from the base model when the run started.

    Raises:
        RunUnusable: the tensors do not match the model and the settings.
    """
    own = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    put_tensors(named_parameters(model), own, "the run's file")
    try:
        adapters = Adapters(model, settings)
    except BadSetting as error:
        raise RunUnusable(f"the run's adapters do not match its base model ({error}); train again") from error
    mine, theirs = adapters.tensors(), {name: tensor for name, tensor in tensors.items() if name not in own}
    if mine.keys() != theirs.keys() or any(mine[name].shape != theirs[name].shape for name in mine):
        raise RunUnusable("the run's adapters do not match its base model; the file may belong to another run")
    for name, tensor in theirs.items():
        mine[name].data.copy_(tensor)
    adapters.merge()


@contextmanager
def _mapped(targets: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        # peft reports that no module matches, or that a matching module is not a linear layer.
        first = str(error).splitlines()[0][:200]
        raise BadSetting(
            f"--lora-targets {targets!r} matches no linear layer of the model ({first}); "
            "the expression must match whole names, for example '.*q_proj|.*v_proj'"
        ) from error
