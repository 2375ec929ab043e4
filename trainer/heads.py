"""CLIP's two projections by themselves: what the recipe trains, and all that is needed beside the towers' output."""

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
"""The projections' names among a model's parameters, as sentence-transformers gives them."""

_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Heads:
    """Two projections without bias, float32.

    Args:
        visual: (d, vision width), of pictures.
        text: (d, text width), of titles.
    """

    visual: Tensor
    text: Tensor

    def pictures(self, pooled: Vectors) -> Vectors:
        """Embed pictures: (n, vision width) pooled vectors to (n, d) float32 of length 1."""
        return _projected(pooled, self.visual)

    def titles(self, pooled: Vectors) -> Vectors:
        """Embed titles: (n, text width) pooled vectors to (n, d) float32 of length 1."""
        return _projected(pooled, self.text)

    def tensors(self) -> dict[str, Tensor]:
        """{parameter name: weights}."""
        return {VISUAL: self.visual, TEXT: self.text}

    def with_tensors(self, tensors: dict[str, Tensor]) -> Heads | None:
        """These heads with some replaced; None when `tensors` has others than heads, or of another shape."""
        mine = self.tensors()
        if any(name not in mine or mine[name].shape != tensor.shape for name, tensor in tensors.items()):
            return None
        kept = {**mine, **tensors}
        return replace(self, visual=kept[VISUAL], text=kept[TEXT])

    def as_bytes(self) -> bytes:
        """A safetensors file."""
        return save({name: tensor.contiguous() for name, tensor in self.tensors().items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> Heads | None:
        """What `as_bytes` wrote; None for anything else."""
        try:
            tensors = load(content)
            return cls(tensors[VISUAL], tensors[TEXT])
        except (SafetensorError, KeyError):
            return None


def heads_of(model: SentenceTransformer) -> Heads | None:
    """The projections of a CLIP, copied; None when an embedding is not just one of them times what a tower gives.

    Then only the whole model can be run: its kin (model types `chinese_clip`, `altclip`, ...) pool otherwise, and a
    further module (`Dense`), a default prompt or a cut to fewer dimensions would be left out.
    """
    from sentence_transformers.base.modules import Normalize  # noqa: PLC0415 (whoever has a model has it already)

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
    """Project and normalise, a block of rows at a time."""
    with torch.no_grad():
        parts = [
            normalize(torch.from_numpy(pooled[start : start + _BLOCK_ROWS]) @ weight.T, dim=1).numpy()
            for start in range(0, len(pooled), _BLOCK_ROWS)
        ]
    return np.concatenate(parts) if parts else np.empty((0, len(weight)), np.float32)
