"""Damaged files: each kind of damage has a clear error, and no byte of the file changes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from bench.reliability_damage import DAMAGES, unreadable_pages
from store.db import open_database
from store.errors import NotAStore
from tests.store.builders import add_channel, add_video


@pytest.fixture(scope="module")
def whole(migrated_file: Path) -> bytes:
    """The bytes of a sound store with rows and thumbnails."""
    copy = migrated_file.with_name("filled.db")
    copy.write_bytes(migrated_file.read_bytes())
    database = open_database(f"sqlite:///{copy}")
    with database.write() as session:
        add_channel(session, "UC1", "@uc1", "One")
        for day in range(60):
            add_video(session, f"v{day}", day=day, title=f"Title {day}", picture=bytes([day]) * 9000, channel_id="UC1")
    database.close()
    return copy.read_bytes()


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_file_is_refused_and_unchanged(tmp_path: Path, whole: bytes, name: str, read_only: bool) -> None:
    damage, said = DAMAGES[name]
    path = tmp_path / "damaged.db"
    path.write_bytes(damage(whole))

    def use() -> None:
        database = open_database(f"sqlite:///{path}", read_only=read_only)
        try:
            with database.read() as session:
                session.connection().exec_driver_sql("SELECT * FROM video, video_version, picture").fetchone()
                rows = session.connection().exec_driver_sql("PRAGMA integrity_check").fetchall()
                assert rows == [("ok",)], "only the integrity check finds it"
        finally:
            database.close()

    if name == "damaged pages":
        with pytest.raises((NotAStore, AssertionError)):
            use()
    else:
        with pytest.raises(NotAStore) as caught:
            use()
        assert said in str(caught.value)
    assert path.read_bytes() == damage(whole)
    # A reader's index of the log (-shm) may stay; it holds no content.
    left = {file.name for file in tmp_path.iterdir() if file.stat().st_size}
    assert left <= {path.name, f"{path.name}-shm"}


def test_a_text_that_is_not_utf8_is_damage(tmp_path: Path, whole: bytes) -> None:
    """SQLite does not notice it; Python's driver raises an error without a code, whose message quotes the text."""
    path = tmp_path / "damaged.db"
    path.write_bytes(whole.replace(b"Title 7", b"Secret\xff"))
    with (
        open_database(f"sqlite:///{path}", read_only=True) as database,
        pytest.raises(NotAStore) as caught,
        database.read() as session,
    ):
        session.connection().exec_driver_sql("SELECT title FROM video").fetchall()
    assert str(path) in str(caught.value)
    assert "Secret" not in str(caught.value)


@pytest.mark.slow
def test_the_check_finds_damage_on_any_page(tmp_path: Path, whole: bytes) -> None:
    pages = range(0, len(whole) // 4096, 8)
    assert unreadable_pages(whole, tmp_path / "page.db", pages) == []


def test_a_new_store_is_never_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    sizes: set[int] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            if path.exists():
                sizes.add(path.stat().st_size)

    watcher = threading.Thread(target=look)
    watcher.start()
    opened = [open_database(f"sqlite:///{path}") for _ in range(2)]
    done.set()
    watcher.join()
    for database in opened:
        database.close()
    assert 0 not in sizes
    assert [file.name for file in tmp_path.iterdir()] == ["new.db"]


def test_a_store_is_created_on_a_file_system_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    open_database(f"sqlite:///{tmp_path / 'new.db'}").close()
    assert [file.name for file in tmp_path.iterdir()] == ["new.db"]
