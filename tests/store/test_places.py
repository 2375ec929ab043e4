"""Thumbnails in a folder or a bucket: moving, reading, loss, checks, and failures of the object store."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from store.db import Database, check, copy_store, expect_pictures, move_pictures, open_database, unsound
from store.db.damage import damaged_pictures
from store.db.picture_files import delete_orphans, places, use_place
from store.db.places import MARK, open_place
from store.db.places import place_url as checked
from store.errors import BadPicturesUrl, NotFound, PictureDamaged, PicturesUnavailable
from store.tables import Picture, PictureFailure
from store.training import read_pictures
from store.types import utc_now
from store.youtube import mark_lost, picture_file
from tests.object_store import SECRET, ObjectStore, folder_url
from tests.store.builders import add_channel, add_video
from tests.store.test_read_only import as_user

FILES = {hashlib.sha256(content).hexdigest(): content for content in (b"picture %d" % n * (n + 1) for n in range(9))}
DIGESTS = sorted(FILES)


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database, FILES)
    return database


def fill(database: Database, files: dict[str, bytes]) -> None:
    with database.write() as session:
        add_channel(session)
        for number, content in enumerate(files.values()):
            add_video(session, f"video{number:06d}", picture=content)


def stored(database: Database) -> dict[str, bytes]:
    with database.read() as session:
        return read_pictures(session, session.scalars(select(Picture.sha256)))


def in_rows(database: Database) -> int:
    """The thumbnails' bytes in the rows."""
    with database.read() as session:
        return session.scalar(select(func.sum(func.length(Picture.bytes)))) or 0


def count_outside(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).where(Picture.place_id.is_not(None))) or 0


def listed(url: str) -> set[str]:
    return {one.sha256 for page in open_place(url).listed() for one in page}


def problems(database: Database) -> list[str]:
    return [problem for result in check(database) for problem in result.problems]


def write(url: str, files: dict[str, bytes]) -> None:
    open_place(url).put_many(files)


def test_thumbnails_move_to_a_place_and_back(filled: Database, place_url: str) -> None:
    moved = move_pictures(filled, place_url)
    assert (moved.moved, moved.unsound, moved.kept) == (len(FILES), (), ())
    assert (stored(filled), in_rows(filled), listed(place_url)) == (FILES, 0, set(FILES))
    with filled.read() as session:
        assert picture_file(session, DIGESTS[0]) == (FILES[DIGESTS[0]], "image/jpeg")
    assert problems(filled) == []
    assert move_pictures(filled, place_url).moved == 0

    assert move_pictures(filled, None).moved == len(FILES)
    assert (stored(filled), in_rows(filled), listed(place_url)) == (FILES, sum(map(len, FILES.values())), set())
    with filled.read() as session:
        assert places(session) == []
    assert move_pictures(filled, place_url).moved == len(FILES)  # another store can use the empty place


def test_a_folder_moved_by_other_means_can_be_used(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, FILES)
    old, new = tmp_path / "old", tmp_path / "new"
    move_pictures(sqlite_database, folder_url(old))
    old.rename(new)
    moved = move_pictures(sqlite_database, folder_url(new))
    assert (moved.moved, moved.unsound, moved.kept) == (len(FILES), (), (folder_url(old),))
    assert stored(sqlite_database) == FILES


@pytest.mark.parametrize("alias", ["with space", "link", ".//with%20space"])
def test_a_move_to_the_same_folder_under_another_url_deletes_nothing(
    sqlite_database: Database, tmp_path: Path, alias: str
) -> None:
    fill(sqlite_database, FILES)
    (tmp_path / "with space").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "with space")
    move_pictures(sqlite_database, f"file://{tmp_path}/with%20space")
    move_pictures(sqlite_database, f"file://{tmp_path}/{alias}")
    assert stored(sqlite_database) == FILES
    with sqlite_database.read() as session:
        assert [at.url for at in places(session)] == [f"file://{tmp_path}/{alias}"]
    assert problems(sqlite_database) == []
    names = {file.name for file in (tmp_path / "with space").rglob("*") if file.is_file()}
    assert names == {MARK, *FILES}


def test_a_move_to_the_same_prefix_under_another_url_deletes_nothing(
    sqlite_database: Database, bucket: ObjectStore
) -> None:
    fill(sqlite_database, FILES)
    move_pictures(sqlite_database, bucket.url)
    move_pictures(sqlite_database, bucket.url.replace("/some", "//some"))
    assert stored(sqlite_database) == FILES


def test_a_second_move_ends_the_first(database: Database, tmp_path: Path) -> None:
    first, second = folder_url(tmp_path / "first"), folder_url(tmp_path / "second")
    fill(database, FILES)

    @contextmanager
    def overtaken(_work: str, _items: int | None) -> Iterator[Callable[[int], None]]:
        use_place(database, second)
        yield lambda _n: None

    with pytest.raises(PicturesUnavailable):
        move_pictures(database, first, overtaken)
    assert count_outside(database) == 0
    assert move_pictures(database, second).moved == len(FILES)
    assert (stored(database), listed(first)) == (FILES, set())


def test_a_move_does_not_empty_the_place_that_a_later_move_uses(database: Database, tmp_path: Path) -> None:
    old, new = folder_url(tmp_path / "old"), folder_url(tmp_path / "new")
    fill(database, FILES)
    move_pictures(database, old)

    @contextmanager
    def overtaken(_work: str, _items: int | None) -> Iterator[Callable[[int], None]]:
        yield lambda _n: None
        write(use_place(database, old).pictures.url, FILES)  # type: ignore[union-attr]

    assert move_pictures(database, new, overtaken).kept == ()
    assert listed(old) == set(FILES)
    assert move_pictures(database, old).moved == len(FILES)
    assert stored(database) == FILES


def test_a_copy_of_a_store_can_leave_the_files_to_the_original(database: Database, tmp_path: Path) -> None:
    old, new = folder_url(tmp_path / "old"), folder_url(tmp_path / "new")
    fill(database, FILES)
    move_pictures(database, old)
    with open_database(f"sqlite:///{tmp_path / 'copy.db'}") as copied:
        copy_store(database, copied)
        move_pictures(copied, new, keep_files=True)
        assert (stored(copied), problems(copied)) == (FILES, [])
        with copied.read() as session:
            assert [at.url for at in places(session)] == [new]
    assert (stored(database), problems(database)) == (FILES, [])


def test_a_move_during_a_check_is_no_damage(database: Database, tmp_path: Path) -> None:
    old, new = folder_url(tmp_path / "old"), folder_url(tmp_path / "new")
    fill(database, FILES)
    move_pictures(database, old)
    checks = check(database)
    next(checks)  # it reads the store's state before the move
    move_pictures(database, new)
    with database.read() as session:
        open_place(old).claim(places(session)[0].mark)  # the move deletes it last
    assert [result.problems for result in checks if result.name == "pictures"] == [()]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX systems")
def test_a_folder_may_contain_folders_that_can_not_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "disk")
        (place / "lost+found").mkdir(parents=True, mode=0)
        write(folder_url(place), FILES)
        Path(folder).chmod(0o755)

        def list_all() -> None:
            assert listed(folder_url(place)) == set(FILES)

        as_user(list_all)


def test_lost_and_truncated_files_are_found_and_due_again(filled: Database, place_url: str) -> None:
    move_pictures(filled, place_url)
    lost, half, *_, whole = DIGESTS
    open_place(place_url).delete_many([lost])
    write(place_url, {half: FILES[half][:-1]})
    with filled.read() as session:
        assert {sha256 for sha256, problem in damaged_pictures(session) if problem} == {lost, half}
        assert unsound(session, DIGESTS) == {lost, half}
        assert read_pictures(session, [whole]) == {whole: FILES[whole]}
        with pytest.raises(NotFound):
            read_pictures(session, [lost, whole])
        with pytest.raises(PictureDamaged):
            read_pictures(session, [half])
        assert picture_file(session, lost) is None
    (found,) = [result for result in check(filled) if result.name == "pictures"]
    assert set(found.digests) == {lost, half}
    now = utc_now()
    with filled.write() as session:
        assert mark_lost(session, found.digests, now) == 2
        assert set(session.scalars(select(PictureFailure.next_try_at))) == {now}
    # Damaged thumbnails stay in place; the others are moved.
    moved = move_pictures(filled, None)
    assert (moved.moved, moved.unsound) == (len(FILES) - 2, tuple(sorted([lost, half])))


def test_sizes_are_compared_by_listing_if_there_are_many(
    filled: Database, place_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.db.damage._READ_WHOLE", 3)
    move_pictures(filled, place_url)
    lost, half, *_ = DIGESTS
    open_place(place_url).delete_many([lost])
    write(place_url, {half: FILES[half][:-1]})
    with filled.read() as session:
        assert unsound(session, [*DIGESTS, "0" * 64]) == {lost, half, "0" * 64}


def test_files_without_a_row_are_counted_and_deleted_after_an_hour(filled: Database, place_url: str) -> None:
    move_pictures(filled, place_url)
    write(place_url, {"ab" * 32: b"of a killed sync"})
    (files,) = [result for result in check(filled) if result.name == "files"]
    assert files.detail.startswith("1 ")
    assert delete_orphans(filled, utc_now()) == 0
    assert delete_orphans(filled, utc_now() + timedelta(hours=2)) == 1
    assert listed(place_url) == set(FILES)


def test_an_empty_place_is_an_error_and_not_lost_thumbnails(filled: Database, place_url: str) -> None:
    """Such as a folder that is not mounted."""
    move_pictures(filled, place_url)
    place = open_place(place_url)
    place.delete_many(DIGESTS)
    place.release()
    with filled.read() as session:
        for use in (read_pictures, unsound):
            with pytest.raises(PicturesUnavailable):
                use(session, DIGESTS)
    with pytest.raises(PicturesUnavailable):
        problems(filled)


def test_an_emptied_place_that_a_killed_move_has_not_forgotten_is_no_damage(filled: Database, place_url: str) -> None:
    use_place(filled, place_url)
    use_place(filled, None)
    open_place(place_url).release()
    assert problems(filled) == []
    assert delete_orphans(filled, utc_now()) == 0
    move_pictures(filled, None)
    with filled.read() as session:
        assert places(session) == []


def test_two_stores_do_not_share_a_place(filled: Database, place_url: str, tmp_path: Path) -> None:
    move_pictures(filled, place_url)
    with open_database(f"sqlite:///{tmp_path / 'other.db'}") as other:
        with pytest.raises(PicturesUnavailable):
            expect_pictures(other, place_url)
        assert expect_pictures(other, "").pictures is None
    assert stored(filled) == FILES


def test_the_store_records_the_place_of_its_thumbnails(store_url: str, place_url: str, tmp_path: Path) -> None:
    with open_database(store_url) as database:
        with pytest.raises(BadPicturesUrl):
            expect_pictures(database, "s3://")
        with expect_pictures(database, place_url + "/") as taken:
            assert taken.pictures is not None
            assert taken.pictures.url == place_url
    with open_database(store_url) as database:
        assert database.pictures == taken.pictures
        assert expect_pictures(database, place_url) == database
        for other in ("", "database", folder_url(tmp_path / "other")):
            with pytest.raises(BadPicturesUrl, match=place_url):
                expect_pictures(database, other)
        fill(database, FILES)
        inside = move_pictures(database, None)
        assert inside.moved == 0  # the bytes were in the rows
    with open_database(store_url) as database:
        assert expect_pictures(database, "").pictures is None
        with pytest.raises(BadPicturesUrl):  # thumbnails in the database are moved, not left behind
            expect_pictures(database, place_url)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/prefix",
        f"s3://bucket/prefix?secret={SECRET}",
        "s3:///prefix",
        "file://host/folder",
        "file:///",
        "relative/folder",
        "https://bucket.s3.amazonaws.com",
        "http://[",
        "file:///folder/%00",
        "s3://a bucket/prefix",
        "s3://bucket/a//b",
        "s3://bucket/../b",
    ],
)
def test_a_bad_url_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(BadPicturesUrl) as refused:
        checked(url)
    assert SECRET not in str(refused.value)


@pytest.mark.slow
def test_requests_to_a_slow_object_store_are_retried(sqlite_database: Database, bucket: ObjectStore) -> None:
    fill(sqlite_database, FILES)
    bucket.failing(3, "503 Slow Down", "SlowDown")
    assert move_pictures(sqlite_database, bucket.url).moved == len(FILES)
    bucket.failing(3, "500 Internal Server Error", "InternalError")
    assert stored(sqlite_database) == FILES


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, -1])
def test_requests_time_out(
    sqlite_database: Database, bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("store.db.places.REQUEST_TIMEOUT", timedelta(seconds=0.5))
    monkeypatch.setattr("store.db.places.RETRY_FOR", timedelta(seconds=3 if times > 0 else 1))
    fill(sqlite_database, FILES)
    move_pictures(sqlite_database, bucket.url)
    ended = threading.Event()
    bucket.hanging(times, ended)
    try:
        if times > 0:
            assert stored(sqlite_database) == FILES
        else:
            with pytest.raises(PicturesUnavailable):
                stored(sqlite_database)
    finally:
        ended.set()


@pytest.mark.parametrize(("status", "code"), [("403 Forbidden", "AccessDenied"), ("404 Not Found", "NoSuchBucket")])
def test_errors_of_the_object_store_are_one_line(
    sqlite_database: Database, bucket: ObjectStore, status: str, code: str
) -> None:
    fill(sqlite_database, FILES)
    bucket.failing(-1, status, code)
    with pytest.raises(PicturesUnavailable, match=code) as refused:
        move_pictures(sqlite_database, bucket.url)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)
    with sqlite_database.read() as session:
        assert places(session) == []
    assert stored(sqlite_database) == FILES  # in the rows

    bucket.answer = None
    move_pictures(sqlite_database, bucket.url)
    bucket.failing(-1, status, code)
    for use in (stored, problems, lambda database: move_pictures(database, None)):
        with pytest.raises(PicturesUnavailable, match=code):
            use(sqlite_database)
    bucket.answer = None
    assert move_pictures(sqlite_database, None).moved == len(FILES)


def test_a_refused_batch_leaves_no_row_without_its_file(sqlite_database: Database, bucket: ObjectStore) -> None:
    fill(sqlite_database, FILES)
    move_pictures(sqlite_database, bucket.url)
    move_pictures(sqlite_database, None)
    real_only_for = bucket.client

    def refuse_pictures(environ: dict[str, object], start: object) -> list[bytes] | None:
        if environ["REQUEST_METHOD"] == "PUT" and DIGESTS[4] in str(environ["PATH_INFO"]):
            assert callable(start)
            start("403 Forbidden", [])
            return [b"<Error><Code>AccessDenied</Code></Error>"]
        return None

    bucket.answer = refuse_pictures
    with pytest.raises(PicturesUnavailable):
        move_pictures(sqlite_database, bucket.url)
    assert stored(sqlite_database) == FILES
    bucket.answer = None
    assert move_pictures(sqlite_database, bucket.url).moved == len(FILES)
    assert real_only_for.head_object(Bucket=bucket.bucket, Key=f"some/prefix/{MARK}")


def test_missing_credentials_are_a_clear_error(bucket: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(PicturesUnavailable, match="AWS_ACCESS_KEY_ID"):
        open_place(bucket.url)


def test_a_process_that_started_before_a_move_can_read_and_write(
    filled: Database, place_url: str, tmp_path: Path
) -> None:
    with open_database(filled.url.render_as_string(hide_password=False)) as before:
        move_pictures(filled, place_url)
        assert stored(before) == FILES
        with before.write() as session:
            add_video(session, "video999999", picture=b"written into its row")
    assert move_pictures(filled, place_url).moved == 1
    assert in_rows(filled) == 0


MOVE = "import sys; from store.db import *; move_pictures(open_database(sys.argv[1]), place_url(sys.argv[2]))"


@pytest.mark.slow
@pytest.mark.processes
def test_a_killed_move_is_continued(database: Database, tmp_path: Path) -> None:
    files = {hashlib.sha256(content).hexdigest(): content for content in (b"%d" % n for n in range(1100))}
    common = {"mime": "image/jpeg", "width": 480, "height": 360, "fetched_at": utc_now()}
    rows = [{"sha256": digest, "bytes": of, "byte_count": len(of), **common} for digest, of in files.items()]
    with database.write() as session:
        session.execute(insert(Picture), rows)
    folder = tmp_path / "pictures"
    url = database.url.render_as_string(hide_password=False)
    for target, begun in ((folder_url(folder), range(1, 1100)), ("database", range(1100))):
        process = subprocess.Popen([sys.executable, "-c", MOVE, url, target])
        while process.poll() is None and count_outside(database) not in begun:
            threading.Event().wait(0.02)
        process.kill()
        process.wait()
        assert count_outside(database) in begun
        assert stored(database) == files
        move_pictures(database, checked(target))
        assert stored(database) == files
        assert problems(database) == []
    assert [file for file in folder.rglob("*") if file.is_file()] == []


def test_a_damaged_row_stays_in_the_database(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, FILES)
    with sqlite_database.write() as session:
        session.execute(update(Picture).where(Picture.sha256 == DIGESTS[2]).values(bytes=b"damaged"))
    moved = move_pictures(sqlite_database, folder_url(tmp_path / "pictures"))
    assert (moved.moved, moved.unsound) == (len(FILES) - 1, (DIGESTS[2],))
