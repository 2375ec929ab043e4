"""Copy a store to the other database and back: every row with its id, and the next ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from store.db import Database, copy_store, open_database, rows_as_dicts
from store.errors import StoreError
from store.tables import Base, Channel, Picture, Video
from store.training import start_run
from tests.store.builders import add_channel, add_video
from tests.trainer.tiny import build_clip, fill
from trainer.runs.training import train
from trainer.settings import TrainSettings

# Their order differs between code points and the locales of databases.
IDS = ("-a", "_B", "B-", "a_", "Ab", "aB", "é1", "z")


def contents(database: Database) -> dict[str, list[tuple[object, ...]]]:
    with database.read() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def filled(database: Database) -> Database:
    """A store with videos and thumbnails of two channels."""
    fill(database, 30)
    with database.write() as session:
        add_channel(session, "UC2", "@two", "Two, and an apostrophe's ü \U0001f600")
        for number, name in enumerate(IDS):
            add_video(session, name, day=number, channel_id="UC2", title=f"{name} ({number})")
    return database


@pytest.fixture
def other_url(filled: Database, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of an empty store on the other database."""
    url: str = request.getfixturevalue("postgres_url") if filled.is_sqlite else f"sqlite:///{tmp_path / 'copy.db'}"
    return url


@pytest.mark.slow
def test_a_copy_has_the_same_rows_and_continues_the_ids(
    filled: Database, other_url: str, tmp_path: Path, clip: Path
) -> None:
    train(filled, TrainSettings(model=str(clip), negatives="random", device="cpu", channels=("UC1",)))
    with open_database(other_url) as other:
        counts = copy_store(filled, other)
        assert contents(other) == contents(filled)
        assert counts["video"] == 30 + len(IDS)
        assert counts["training_run"] == 1
        assert counts["feature"] > 0
        with other.write() as session:
            run = start_run(session, base_model="m", trained="ridge", seed=1, settings={}, packages={}, host="h", pid=1)
        assert run == 2
        with other.read() as session:
            pairs = rows_as_dicts(session, "SELECT count(*) AS n FROM pairs")
        with filled.read() as session:
            assert rows_as_dicts(session, "SELECT count(*) AS n FROM pairs") == pairs
        with open_database(f"sqlite:///{tmp_path / 'back.db'}") as back:
            copy_store(other, back)
            assert contents(back) == contents(other)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("stop_in", ["Copying picture", "Copying video", "Comparing channel"])
def test_an_interrupted_copy_is_continued(
    filled: Database, other_url: str, stop_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.db.copying._ROWS", 5)

    @contextmanager
    def phase(description: str, _total: int | None) -> Iterator[Callable[[int], None]]:
        def count(_n: int) -> None:
            left.append(description)
            if left.count(stop_in) == 3 or description == stop_in == "Comparing channel":
                raise Stopped

        left: list[str] = []
        yield count

    with open_database(other_url) as other:
        with pytest.raises(Stopped):
            copy_store(filled, other, phase)
        before = contents(other)
        assert sum(map(len, before.values())) > 0
        copy_store(filled, other)
        assert contents(other) == contents(filled)


def test_a_store_in_use_is_not_written_to(filled: Database, other_url: str) -> None:
    with open_database(other_url) as other:
        with other.write() as session:
            add_channel(session, "UC0", "@other", "Other")
        before = contents(other)
        with pytest.raises(StoreError, match="channel"):
            copy_store(filled, other)
        assert contents(other) == before
    with pytest.raises(StoreError):
        copy_store(filled, filled)


def test_a_store_is_not_copied_to_itself_by_another_path(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sqlite_database, 3)
    assert sqlite_database.path is not None
    monkeypatch.chdir(sqlite_database.path.parent)
    with open_database(f"sqlite:///{sqlite_database.path.name}") as itself, pytest.raises(StoreError):
        copy_store(sqlite_database, itself)


def test_a_row_that_changed_during_an_interrupted_copy_is_found(filled: Database, other_url: str) -> None:
    with open_database(other_url) as other:
        copy_store(filled, other)
        with filled.write() as session:
            channel = session.get(Channel, "UC1")
            assert channel is not None
            channel.title = "Renamed since"
        with pytest.raises(StoreError, match="channel"):
            copy_store(filled, other)


def test_text_that_postgres_refuses_is_replaced(sqlite_database: Database, postgres_url: str) -> None:
    with sqlite_database.write() as session:
        add_channel(session, title="a\0b")
        session.get_one(Channel, "UC1").api_item = {"k\0": ["\0", "\ud800", "\U0001f600"]}
    with open_database(postgres_url) as other:
        for _ in range(2):
            copy_store(sqlite_database, other)
        with other.read() as session:
            channel = session.get_one(Channel, "UC1")
            assert (channel.title, channel.api_item) == ("a\ufffdb", {"k\ufffd": ["\ufffd", "\ufffd", "\U0001f600"]})


def test_thumbnails_are_copied_a_few_at_a_time(
    filled: Database, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.db.copying._BYTES", 1000)
    with open_database(other_url) as other:
        copy_store(filled, other)
        with filled.read() as ours, other.read() as theirs:
            for table in (Picture, Video):
                counted = select(func.count()).select_from(table)
                assert ours.scalar(counted) == theirs.scalar(counted)
