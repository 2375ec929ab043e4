"""With what a run happens: package versions and commit."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
from pathlib import Path

__all__ = ["git_commit", "package_versions"]

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
