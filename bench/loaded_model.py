"""A process that only loads a model as a run does, and ends: what memory the model alone takes."""

from __future__ import annotations

from typing import Any

from bench.clock import Clock
from trainer.models.encoder import load_encoder

__all__ = ["run"]


def run(clock: Clock, *, model: str) -> dict[str, Any]:
    """Load it.

    Args:
        clock: times the process.
        model: the CLIP's folder.
    """
    with clock.phase("load"):
        encoder = load_encoder(model, "cpu")
    return {"parameters": sum(parameter.numel() for parameter in encoder.model.parameters())}
