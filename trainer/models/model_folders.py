"""Resolve a model's name to a folder, without loading the model or asking the hub."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import UnknownModel
from trainer.models.model_files import check_model_files
from trainer.settings import READER

__all__ = ["hub_name", "model_folder"]

_OF_A_RUN = ("base", "champion", "tuned")
"""Words that name a run's model only together with the run. They never name a model on the hub."""
_TAKEN = {
    "--model": "N:base (the base model of run N)",
    "--text-model": "a sentence model",
    "--title-model": "base (the base model's own text tower)",
}
"""{option: what it accepts other than a folder or hub name}, for error messages."""


def model_folder(name: str, option: str, *, takes: str = "") -> Path | None:
    """Return the folder that `name` refers to, after checking its files; None for a possible hub name.

    Args:
        name: the name given by the user.
        option: the command-line option for this model, for error messages.
        takes: what the option accepts other than a folder or hub name, for error messages; empty for `_TAKEN`.

    Raises:
        UnknownModel: the folder contains no model; or it does not exist, and the name is not a possible hub name.
        DamagedModel: see `check_model_files`.
    """
    if name == READER:
        return None
    try:
        folder = Path(name).expanduser()
        exists = folder.exists()
        if folder.is_dir():
            check_model_files(folder, option)
            return folder
    except (OSError, RuntimeError) as error:
        # OSError: the name is too long for a file, or the folder is unreadable. RuntimeError: ~ names an unknown user.
        reason = error.strerror if isinstance(error, OSError) else "no such home folder"
        raise UnknownModel(
            f"{name} is not a model folder ({reason}); use a folder or a hub name with {option}"
        ) from error
    if exists or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UnknownModel(f"{name} is not a model folder; use a folder or a hub name with {option}")
    # A repository's name has no colon (huggingface_hub.utils.validate_repo_id), and a number is a run's id.
    if name in _OF_A_RUN or ":" in name or name.isdecimal():
        raise UnknownModel(f"{name!r} is not a model; {option} takes {takes or _TAKEN[option]}, a folder or a hub name")
    return None


def hub_name(name: str) -> str:
    """Return the full name of a repository on the hub; `sentence-transformers/` may be left out."""
    return name if "/" in name else f"sentence-transformers/{name}"
