"""Provenance names every distribution that a run may compute with."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from trainer.runs.provenance import git_commit, package_versions

ROOT = Path(__file__).resolve().parent.parent.parent
OURS = {"store", "thumbtune", "trainer"}
# The store's library moves bytes; it computes nothing.
WITHOUT_NUMBERS = {"psutil", "ray", "sqlalchemy"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def recorded() -> dict[str, str]:
    return {plain(name): version for name, version in package_versions().items()}


def test_every_requirement_of_training_is_recorded() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split(r"[^\w.-]", line)[0] for line in project["optional-dependencies"]["train"]}
    assert {plain(name) for name in required if installed(name)} <= recorded().keys()
    assert {"peft", "faiss-cpu", "optuna", "pillow", "tokenizers"} <= recorded().keys()
    # PyPI's build has its CUDA version (+cu130) in `__version__` only.
    assert recorded()["torch"].partition("+")[0] == torch.__version__.partition("+")[0]


@pytest.mark.slow
def test_every_import_of_the_trainer_is_recorded() -> None:
    distributions = importlib.metadata.packages_distributions()
    imported: set[str] = set()
    for path in (ROOT / "trainer").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                imported.add(node.module.partition(".")[0])
    others = imported - OURS - sys.stdlib_module_names
    found = {plain(name) for module in others for name in distributions.get(module, [])}
    assert found - WITHOUT_NUMBERS <= recorded().keys()


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_commit_is_that_of_this_checkout() -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert git_commit() == head.stdout.strip()
