"""A model's two projections without its towers. The default recipe trains only them, on the towers' cached output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn.functional import normalize

from trainer.models.families import TEXT, VISUAL, projections_of
from trainer.models.plain_layers import few_threads

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Projections"]

Vectors = NDArray[np.float32]

_BLOCK_ROWS = 4096
_SMALL = 1 << 28
"""Multiplications that one thread does in about 10 ms. A second thread would mostly wait."""


@dataclass(frozen=True)
class Projections:
    """Two projections without bias, float32.

    Args:
        visual: (d, vision width), the projection of thumbnails.
        text: (d, text width), the projection of titles.
    """

    visual: Tensor
    text: Tensor

    @classmethod
    def of(cls, model: SentenceTransformer) -> Projections:
        """Return a copy of the two projections of a model from `in_one_shape`."""
        layers = projections_of(model)
        visual, text = (layers[name].weight.detach().cpu().float().clone() for name in (VISUAL, TEXT))
        return cls(visual, text)

    def pictures(self, pooled: Vectors) -> Vectors:
        """Embed thumbnails: (n, vision width) pooled vectors to (n, d) float32 of length 1."""
        return _projected(pooled, self.visual)

    def titles(self, pooled: Vectors) -> Vectors:
        """Embed titles: (n, text width) pooled vectors to (n, d) float32 of length 1."""
        return _projected(pooled, self.text)

    def tensors(self) -> dict[str, Tensor]:
        """Return {parameter name: weights}."""
        return {VISUAL: self.visual, TEXT: self.text}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Projections | None:
        """Return a copy with some projections replaced; None if `tensors` has other names or shapes."""
        mine = self.tensors()
        if any(name not in mine or mine[name].shape != tensor.shape for name, tensor in tensors.items()):
            return None
        kept = {**mine, **tensors}
        return replace(self, visual=kept[VISUAL], text=kept[TEXT])

    def as_bytes(self) -> bytes:
        """Return the projections in the safetensors format."""
        return save({name: tensor.contiguous() for name, tensor in self.tensors().items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Projections | None:
        """Read the result of `as_bytes`; None for anything else."""
        try:
            tensors = load(content)
            return cls(tensors[VISUAL], tensors[TEXT])
        except (SafetensorError, KeyError):
            return None


def _projected(pooled: Vectors, weight: Tensor) -> Vectors:
    """Project and normalise, one block of rows at a time."""
    with torch.no_grad(), few_threads(pooled.size * len(weight) < _SMALL):
        parts = [
            normalize(torch.from_numpy(pooled[start : start + _BLOCK_ROWS]) @ weight.T, dim=1).numpy()
            for start in range(0, len(pooled), _BLOCK_ROWS)
        ]
    return np.concatenate(parts) if parts else np.empty((0, len(weight)), np.float32)
