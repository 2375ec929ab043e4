"""Parse the names of a run's models: `3` is the model that run 3 trained, `3:base` is its base model."""

from __future__ import annotations

import re

__all__ = ["parse_run"]


def parse_run(text: str) -> tuple[int, str] | None:
    """Parse `N`, `N:tuned` (the trained model) or `N:base` to (run id, `tuned` or `base`); None for any other text."""
    found = re.fullmatch(r"(\d{1,18})(?::(base|tuned))?", text)
    return (int(found[1]), found[2] or "tuned") if found else None
