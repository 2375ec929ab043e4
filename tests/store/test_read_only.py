"""Stores that can't be written are read unchanged, or rejected with the reason."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from store.db import Database, backup, check, open_database
from store.db.migrate import bring_up_to_date
from store.errors import DatabaseUnavailable, StoreTooOld
from tests.store.builders import add_channel, add_video

pytestmark = pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that any user may enter."""
    with tempfile.TemporaryDirectory(prefix="thumbtune-read-only-") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def store(place: Path, migrated_file: Path) -> Path:
    """A cleanly closed store with a pair, in its own folder."""
    path = place / "store" / "thumbtune.db"
    path.parent.mkdir()
    shutil.copy(migrated_file, path)
    database = open_database(f"sqlite:///{path}")
    with database.write() as session:
        add_channel(session)
        add_video(session, "v1")
    database.close()
    return path


def as_user(act: Callable[[], None]) -> None:
    """Run a function as an unprivileged user who owns none of the files."""
    if os.getuid() != 0:
        act()
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def pairs(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(text("SELECT video_id FROM pairs")))


def close_to_writers(store: Path, what: str) -> None:
    if "file" in what:
        store.chmod(0o444)
    if "folder" in what:
        store.parent.chmod(0o555)


@pytest.mark.parametrize("what", ["file", "folder", "file and folder"])
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_without_write_permission_a_store_is_read_and_no_file_is_left(
    store: Path, place: Path, what: str, read_only: bool, journal: str
) -> None:
    with sqlite3.connect(store) as plain:
        plain.execute(f"PRAGMA journal_mode = {journal}")
    plain.close()
    close_to_writers(store, what)

    def act() -> None:
        database = open_database(f"sqlite:///{store}", read_only=read_only)
        assert pairs(database) == ["v1"]
        assert not any(result.problems for result in check(database))
        assert backup(database, place / "copy.db") > 0
        with pytest.raises(DatabaseUnavailable), database.write():
            pass
        database.close()

    as_user(act)
    assert [file.name for file in store.parent.iterdir()] == [store.name]
    copy = open_database(f"sqlite:///{place / 'copy.db'}")
    assert pairs(copy) == ["v1"]
    copy.close()


@pytest.mark.parametrize("index", [True, False])
def test_a_store_with_an_unmerged_log(store: Path, index: bool) -> None:
    """The rows in its log are read, or the error says why not."""
    writer = open_database(f"sqlite:///{store}")
    with writer.write() as session:
        add_video(session, "v2")
    left = {name: Path(f"{store}-{name}").read_bytes() for name in (["wal", "shm"] if index else ["wal"])}
    writer.close()
    for name, content in left.items():
        Path(f"{store}-{name}").write_bytes(content)
    close_to_writers(store, "file and folder")

    def act() -> None:
        if index:
            database = open_database(f"sqlite:///{store}")
            assert pairs(database) == ["v1", "v2"]
            return
        with pytest.raises(DatabaseUnavailable) as caught:
            open_database(f"sqlite:///{store}")
        assert "thumbtune.db-wal" in str(caught.value)

    as_user(act)


def test_a_change_during_an_unlocked_read_is_an_error(store: Path) -> None:
    store.parent.chmod(0o755)
    close_to_writers(store, "folder")
    go, went = os.pipe(), os.pipe()

    def read_meanwhile(database: Database) -> None:
        with database.read() as session:
            session.scalar(text("SELECT count(*) FROM video"))
            os.write(go[1], b"!")
            assert os.read(went[0], 1) == b"!"

    def act() -> None:
        database = open_database(f"sqlite:///{store}")
        with pytest.raises(DatabaseUnavailable):
            read_meanwhile(database)
        assert pairs(database) == ["v1", "v2"]

    if os.getuid() != 0:
        pytest.skip("takes two users")
    child = os.fork()
    if child == 0:  # the owner, who may write
        os.read(go[0], 1)
        writer = open_database(f"sqlite:///{store}")
        with writer.write() as session:
            add_video(session, "v2")
        writer.close()
        os.write(went[1], b"!")
        os._exit(0)
    as_user(act)
    assert os.waitpid(child, 0)[1] == 0


def test_a_store_that_needs_a_migration_cannot_be_read(place: Path) -> None:
    path = place / "store" / "old.db"
    path.parent.mkdir()
    engine = create_engine(f"sqlite:///{path}")
    bring_up_to_date(engine, target="0003")
    engine.dispose()
    close_to_writers(path, "file and folder")

    def act() -> None:
        with pytest.raises(StoreTooOld):
            open_database(f"sqlite:///{path}")

    as_user(act)


MOUNTED = """
set -e
mount --bind "$1" "$1"
mount -o remount,ro,bind "$1"
shift
exec "$@"
"""
COMMANDS = """
import contextlib, io, json, sys
from thumbtune.cli import main
done = {}
for line in sys.argv[2:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["--db", sys.argv[1], *line.split()])
        except SystemExit as ended:
            done[line] = [ended.code, err.getvalue().strip().splitlines()[-1:]]
print(json.dumps(done))
"""


def on_read_only_mount(folder: Path, *command: str) -> str:
    """The output of a command that sees the folder as a read-only mount; skipped if mounts are not allowed."""
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-rm"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no mounts of our own here")
    run = [*unshare, "sh", "-c", MOUNTED, "sh", str(folder), *command]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.processes
def test_commands_on_a_read_only_mount(store: Path, place: Path) -> None:
    reading = ["channels", "runs", "db check", f"db backup {place / 'copy.db'}", "sql SELECT/**/*/**/FROM/**/pairs"]
    writing = ["db clear-cache"]
    command = [sys.executable, "-c", COMMANDS, f"sqlite:///{store}", *reading, *writing]
    done = json.loads(on_read_only_mount(store.parent, *command))
    assert {line: done[line][0] for line in reading} == dict.fromkeys(reading, 0), done
    assert [done[line][0] for line in writing] == [1]
    assert "read-only mount" in done[writing[0]][1][0]
