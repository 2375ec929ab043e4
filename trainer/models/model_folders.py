"""Resolve a model's name to a folder, without loading the model or asking the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from trainer.errors import DamagedModel, UnknownModel
from trainer.settings import READER

__all__ = ["model_folder"]

_PICKLES = (".bin", ".pkl", ".pt", ".pth")
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
        DamagedModel: the folder or a module's folder has no weights in safetensors.
    """
    if name == READER:
        return None
    try:
        folder = Path(name).expanduser()
        exists = folder.exists()
        if folder.is_dir():
            _check(folder, option)
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


def _check(folder: Path, option: str) -> None:
    """Reject a folder that would cause an obscure error in the libraries, or whose weights can run code."""
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise UnknownModel(
            f"{folder} contains no model (no config.json or modules.json); use another folder with {option}"
        )
    # Each module is checked, because safetensors of one module do not replace the pickle of another.
    modules = (module.iterdir() for module in _modules(folder, option) if module.is_dir())
    if any(_pickles_alone(files) for files in (folder.rglob("*"), *modules)):
        raise DamagedModel(
            f"{folder} has weights only as pickles, which can execute code when they are loaded; "
            f"convert them to safetensors, or use another model with {option}"
        )
    if not any(folder.rglob("*.safetensors")):
        raise DamagedModel(
            f"{folder} has no weights (*.safetensors); copy the whole model, or use another model with {option}"
        )


def _modules(folder: Path, option: str) -> list[Path]:
    """The folders in `modules.json`, which sentence-transformers would load; empty if the file does not exist."""
    listed = folder / "modules.json"
    if not listed.is_file():
        return []
    try:
        return [folder / module["path"] for module in json.loads(listed.read_bytes())]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedModel(
            f"{listed} is not a list of modules; copy the whole model, or use another model with {option}"
        ) from error


def _pickles_alone(files: Iterable[Path]) -> bool:
    """Whether these files contain weights as pickles, but no safetensors."""
    kinds = {file.suffix for file in files}
    return not kinds.isdisjoint(_PICKLES) and ".safetensors" not in kinds
