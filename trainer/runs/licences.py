"""Find the licence of a base model, which also applies to the models that are trained from it."""

from __future__ import annotations

import re

from trainer.models import files_folder

__all__ = ["licence_of"]

_FRONT = re.compile(r"\A---\r?\n(.*?)\n---", re.DOTALL)
_LICENCE = re.compile(r"^license:[ \t]*([A-Za-z0-9][A-Za-z0-9.+-]{0,63})[ \t\r]*$", re.MULTILINE)
_MOST_CHARS = 100_000


def licence_of(model: str) -> str | None:
    """Return the licence in a model's README, as the hub's identifier, for example `apache-2.0`.

    The README is not parsed as YAML, because a stranger may have written it.

    Args:
        model: hub name or folder. Nothing is downloaded.

    Returns:
        The identifier; None if the model is not on this machine, or its README does not name a licence.
    """
    folder = files_folder(model)
    if folder is None:
        return None
    try:
        with (folder / "README.md").open(encoding="utf-8") as file:
            front = _FRONT.match(file.read(_MOST_CHARS))
    except (OSError, ValueError):
        return None
    found = _LICENCE.search(front[1]) if front else None
    return found[1] if found else None
