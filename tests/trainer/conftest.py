"""Fixtures of the trainer's tests: a tiny CLIP, saved once for all tests, and a store to train on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.db import Database
from tests.trainer.tiny import build_clip, fill, load_encoder
from trainer.models import Encoder
from trainer.quiet import quiet_libraries


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CLIP with random weights."""
    with quiet_libraries():
        return build_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture
def encoder(tiny_clip: Path) -> Encoder:
    """The tiny CLIP, loaded for each test, which may train it."""
    with quiet_libraries():
        return load_encoder(str(tiny_clip), "cpu")


@pytest.fixture
def filled(sqlite_database: Database) -> Database:
    """A store of 40 pairs."""
    fill(sqlite_database, 40)
    return sqlite_database


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep the model libraries from printing."""
    with quiet_libraries():
        yield
