"""Models for sets of channels: which model is used for a query, and that models of other sets are not replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from store.db import Database
from store.tables import Video
from store.training import current_models, fitting_champion, promote
from tests.store.builders import add_channel
from tests.trainer.tiny import fill
from tests.trainer.training import new_pairs
from trainer.errors import BadSetting
from trainer.runs import inherited_settings, retrain, scopes_to_retrain, train
from trainer.runs.in_use import open_in_use
from trainer.runs.recorded import run_in_use
from trainer.settings import TrainSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def two_channels(sqlite_database: Database) -> Database:
    """40 pairs of UC1, of which the last 12 are UC2's."""
    fill(sqlite_database, 40)
    with sqlite_database.write() as session:
        add_channel(session, "UC2")
        session.execute(update(Video).where(Video.id >= "UC1-028").values(channel_id="UC2"))
    return sqlite_database


def settings(folder: Path, **other: Any) -> TrainSettings:
    return TrainSettings(**{"model": str(folder), "train": "ridge", "device": "cpu", **other})


def scopes(database: Database) -> list[tuple[int, tuple[str, ...]]]:
    with database.read() as session:
        return [(one.run.id, one.scope) for one in current_models(session)]


def test_a_model_of_one_channel_does_not_replace_the_model_of_all(two_channels: Database, tiny_clip: Path) -> None:
    database = two_channels
    wide = train(database, settings(tiny_clip)).run_id
    with database.write() as session:
        promote(session, wide, "by hand")
    inherited = inherited_settings(database, {}, ("UC2",))
    assert (inherited.run_id, inherited.settings.channels) == (wide, ("UC2",))
    done = retrain(database, inherited.settings, min_new=0)
    assert done.result is not None
    assert done.result.decision is not None
    assert (done.result.promoted, done.champion_id) == (False, wide)
    assert scopes(database) == [(wide, ())]
    # After manual promotions both are in use, and each query gets the model of the smallest matching set.
    with database.write() as session:
        promote(session, done.result.run_id, "by hand")
    narrow = done.result.run_id
    assert scopes(database) == [(wide, ()), (narrow, ("UC2",))]
    for channels, expected in (((), wide), (("UC1",), wide), (("UC1", "UC2"), wide), (("UC2",), narrow)):
        assert run_in_use(database, channels) == (expected, "tuned")
        assert open_in_use(database, device="cpu", channels=channels).run_id == expected
    assert scopes_to_retrain(database) == [(), ("UC2",)]
    # The run for UC2 was trained on its pairs, which still count as new for all channels.
    assert new_pairs(database, ["UC2"]).total == 0


def test_channels_without_a_trained_model_use_the_base_model(two_channels: Database, tiny_clip: Path) -> None:
    database = two_channels
    run_id = train(database, settings(tiny_clip, channels=("UC2",))).run_id
    assert scopes_to_retrain(database) == [()], "nothing is in use, so the run is no reason to leave out UC1"
    assert new_pairs(database, []).total > 0
    with database.write() as session:
        promote(session, run_id, "by hand")
        assert fitting_champion(session, ["UC1"]) is None
        assert fitting_champion(session) is None, "UC1 is not covered"
    assert run_in_use(database, ["UC1"]) == (run_id, "base")
    assert scopes_to_retrain(database) == [("UC2",)]


def test_scopes_to_retrain_are_channels_of_the_store(two_channels: Database) -> None:
    assert scopes_to_retrain(two_channels) == [()]
    assert scopes_to_retrain(two_channels, ["UC2", "UC1"]) == [("UC1", "UC2")]
    with pytest.raises(BadSetting):
        scopes_to_retrain(two_channels, ["@nobody"])
