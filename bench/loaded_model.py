"""Load a model like a run does, and exit, to measure the memory of the model alone."""

from __future__ import annotations

from typing import Any

from bench.clock import Clock
from trainer.models.encoder import load_clip

__all__ = ["run"]


def run(clock: Clock, *, model: str) -> dict[str, Any]:
    """Load the model.

    Args:
        clock: times the process.
        model: the CLIP model's folder.
    """
    with clock.phase("load"):
        loaded = load_clip(model, "cpu")
    return {"parameters": sum(parameter.numel() for parameter in loaded.parameters())}
