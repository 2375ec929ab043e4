"""CLIP's two projections without the towers: the recipe trains only these, on the towers' cached output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn.functional import normalize

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["TEXT", "VISUAL", "Heads", "heads_of"]

Vectors = NDArray[np.float32]

VISUAL = "0.model.visual_projection.weight"
TEXT = "0.model.text_projection.weight"
"""The names of the projections' parameters in sentence-transformers."""

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Heads:
    """Two projections without bias, float32.

    Args:
        visual: (d, vision width), for thumbnails.
        text: (d, text width), for titles.
    """

    visual: Tensor
    text: Tensor

    def pictures(self, pooled: Vectors) -> Vectors:
        """Embed thumbnails: (n, vision width) pooled vectors to (n, d) float32 of norm 1."""
        return _projected(pooled, self.visual)

    def titles(self, pooled: Vectors) -> Vectors:
        """Embed titles: (n, text width) pooled vectors to (n, d) float32 of norm 1."""
        return _projected(pooled, self.text)

    def tensors(self) -> dict[str, Tensor]:
        """{parameter name: weights}."""
        return {VISUAL: self.visual, TEXT: self.text}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Heads | None:
        """Return a copy with some projections replaced; None if `tensors` has other names or shapes."""
        mine = self.tensors()
        if any(name not in mine or mine[name].shape != tensor.shape for name, tensor in tensors.items()):
            return None
        kept = {**mine, **tensors}
        return replace(self, visual=kept[VISUAL], text=kept[TEXT])

    def as_bytes(self) -> bytes:
        """Return the projections as a safetensors file."""
        return save({name: tensor.contiguous() for name, tensor in self.tensors().items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Heads | None:
        """Read the result of `as_bytes`; None for anything else."""
        try:
            tensors = load(content)
            return cls(tensors[VISUAL], tensors[TEXT])
        except (SafetensorError, KeyError):
            return None


def heads_of(model: SentenceTransformer) -> Heads | None:
    """Return a copy of a CLIP's projections; None if an embedding is not just a projection times a tower's output.

    In that case the whole model must be run: related models (model types `chinese_clip`, `altclip`, ...) pool
    differently, and a further module (`Dense`), a default prompt or a truncated dimension would be ignored.
    """
    from sentence_transformers.base.modules import Normalize  # noqa: PLC0415 (imported already by whoever loaded the model)

    core: Any = model[0].model
    _first, *others = model
    prompt = model.prompts.get(model.default_prompt_name or "")
    if core.config.model_type != "clip" or prompt or model.truncate_dim is not None:
        return None
    if any(not isinstance(other, Normalize) for other in others):
        return None
    projections = [getattr(core, name, None) for name in ("visual_projection", "text_projection")]
    if not all(isinstance(head, nn.Linear) and head.bias is None for head in projections):
        return None
    visual, text = (head.weight.detach().cpu().float().clone() for head in projections if head is not None)
    return Heads(visual, text)


def _projected(pooled: Vectors, weight: Tensor) -> Vectors:
    """Project and normalise, one block of rows at a time."""
    with torch.no_grad():
        parts = [
            normalize(torch.from_numpy(pooled[start : start + _BLOCK_ROWS]) @ weight.T, dim=1).numpy()
            for start in range(0, len(pooled), _BLOCK_ROWS)
        ]
    return np.concatenate(parts) if parts else np.empty((0, len(weight)), np.float32)
