"""The software that a run uses: package versions and commit."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import trainer

__all__ = ["git_commit", "package_versions"]

_EXTRAS = ("train", "reader")
"""The extras of thumbtune whose requirements affect a run's numbers."""
_INDIRECT = ("thumbtune", "pillow", "tokenizers", "torchvision")
"""Further distributions to record: they are indirect requirements, or used by another distribution if installed."""


def package_versions() -> dict[str, str]:
    """The version of each distribution that affects a run's numbers, including Python and the platform.

    The list is taken from the metadata of thumbtune's extras, so that it is complete, plus some indirect requirements.
    Distributions that are not installed are left out.

    Returns:
        {distribution: version}.
    """
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in (*_INDIRECT, *_required()):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


@cache
def _required() -> tuple[str, ...]:
    """The distributions that thumbtune's metadata names for `_EXTRAS`; empty if thumbtune is not installed."""
    try:
        lines = importlib.metadata.requires("thumbtune") or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    # For example, `torch>=2.5; extra == "train"`.
    found = (re.match(r"([\w.-]+).*;.*\bextra *== *[\"']([\w-]+)", line) for line in lines)
    return tuple(match[1] for match in found if match is not None and match[2] in _EXTRAS)


def git_commit() -> str | None:
    """The commit of thumbtune's own checkout; None if it is installed as a package or git is not installed."""
    root = Path(trainer.__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed command)
    return found.stdout.strip() or None
