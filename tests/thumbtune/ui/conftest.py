"""Stores and pages for the tests of the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from store.db import Database, open_database
from tests.thumbtune.asking import make_clip
from tests.thumbtune.ui.serving import Client, serving
from tests.trainer.tiny import fill
from tests.trainer.training import settings as training_settings
from tests.trainer.training import train_in_use
from trainer.runs import train


@pytest.fixture
def filled(sqlite_database: Database) -> Database:
    """A store of 60 pairs of one channel and 3 of another, without a model."""
    fill(sqlite_database, 60)
    fill(sqlite_database, 3, "UC2")
    return sqlite_database


@pytest.fixture
async def client(filled: Database) -> AsyncIterator[Client]:
    async with serving(str(filled.url)) as client:
        yield client


@pytest.fixture(scope="session")
def trained_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a store with two runs of a tiny model, the first one in use."""
    folder = tmp_path_factory.mktemp("page with models")
    url = f"sqlite:///{folder / 'thumbtune.db'}"
    clip: Path = make_clip(folder)
    with open_database(url) as database:
        fill(database, 40)
        fill(database, 3, "UC2")
        train_in_use(database, training_settings(clip))
        train(database, training_settings(clip, seed=7))
    return url
