"""Where and with what a run happens: package versions, commit, host, and whether a process still lives."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
from datetime import datetime
from pathlib import Path

import psutil

__all__ = ["git_commit", "host", "package_versions", "process_is_alive"]

_PACKAGES = (
    "thumbtune",
    "torch",
    "sentence-transformers",
    "transformers",
    "accelerate",
    "datasets",
    "numpy",
    "pandas",
    "pillow",
    "safetensors",
    "scipy",
    "tokenizers",
)


def host() -> str:
    """This machine's name, as run rows hold it."""
    return socket.gethostname()


def package_versions() -> dict[str, str]:
    """{distribution: version} of what decides a run's numbers, Python and the platform included."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """The commit of thumbtune's own checkout; None when it is installed as a package, or git is not here."""
    root = Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    command = [git, "-C", str(root), "rev-parse", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (fixed command)
    return found.stdout.strip() or None


def process_is_alive(pid: int, started_at: datetime) -> bool:
    """Whether the process that started a run at `started_at` still runs.

    A number is used again after its process ended: a process younger than the run is another one, and so is this one,
    which asks before it starts a run.
    """
    if pid == os.getpid():
        return False
    try:
        process = psutil.Process(pid)
        ended = process.status() == psutil.STATUS_ZOMBIE
        # The two clocks differ by up to a tick.
        return not ended and process.create_time() <= started_at.timestamp() + 1.0
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
