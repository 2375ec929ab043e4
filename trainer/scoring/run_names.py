"""How users name a run's models: `3` is the model that run 3 trained, `3:base` is its base model."""

from __future__ import annotations

import re

__all__ = ["parse_run"]


def parse_run(text: str) -> tuple[int, str] | None:
    """Parse `N` (a run's tuned model), `N:base` or `N:tuned`; None for anything else, such as a model's name."""
    found = re.fullmatch(r"(\d{1,18})(?::(base|tuned))?", text)
    return (int(found[1]), found[2] or "tuned") if found else None
