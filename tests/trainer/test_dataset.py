"""Exported datasets, read back by the libraries that users read them with."""

from __future__ import annotations

import csv
import io
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Image, load_dataset, load_from_disk
from sqlalchemy import select, update

from bench.reliability_disk import UNSHARE, can_mount
from store.db import Database
from store.errors import NotFound
from store.tables import Video
from store.training import ExampleRow, load_examples, read_pictures, write_words
from store.types import utc_now
from tests import forked
from tests.store.builders import change_video, url_of
from tests.trainer.tiny import fill
from trainer.data import export_dataset, mine_negatives, snapshot
from trainer.data.export import Form
from trainer.errors import CantSave, NotEnoughPairs
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings


@pytest.fixture
def made(database: Database) -> int:
    """A snapshot of 100 pairs (more than one batch in train) with random negatives."""
    fill(database, 100)
    chosen = snapshot.select_pairs(database)
    settings = TrainSettings(negatives="random")
    rows = mine_negatives(chosen, settings, lambda _titles: pytest.fail("random compares nothing"))
    return snapshot.write_snapshot(database, chosen, rows, settings, None)[0]


def examples(database: Database, snapshot_id: int, split: str) -> list[ExampleRow]:
    with database.read() as session:
        return [row for row in load_examples(session, snapshot_id) if row.split == split]


@pytest.mark.slow
def test_a_dataset_dict_equals_the_snapshot(database: Database, made: int, tmp_path: Path) -> None:
    with database.write() as session:
        change_video(session, "UC1-000", title="renamed since")
    written = export_dataset(database, tmp_path / "ds", snapshot_id=made)
    assert (written.snapshot_id, written.examples) == (made, {"train": 70, "valid": 15, "test": 15})
    with quiet_libraries():
        loaded = load_from_disk(str(tmp_path / "ds"))
    assert set(loaded) == {"train", "validation", "test"}
    with database.read() as session:
        titles = {row.position: row.title for row in load_examples(session, made)}
    for split, own_name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        rows = examples(database, made, own_name)
        assert loaded[split].column_names[:5] == ["anchor", "positive", "negative", "video_id", "channel_id"]
        assert set(loaded[split]["channel"]) == {"@uc1"}
        assert loaded[split]["positive"][:] == [row.title for row in rows]
        assert loaded[split]["negative"][:] == [titles[row.negative_position or 0] for row in rows]
        assert loaded[split]["video_id"][:] == [row.video_id for row in rows]
    assert loaded["train"][3]["anchor"].size == (48, 36)
    raw = loaded["train"].cast_column("anchor", Image(decode=False))[3]["anchor"]["bytes"]
    with database.read() as session:
        digest = examples(database, made, "train")[3].picture_sha256
        assert read_pictures(session, [digest])[digest] == raw
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["ds"], "no temporary files left"


@pytest.mark.slow
def test_parquet_files_equal_the_snapshot(database: Database, made: int, tmp_path: Path) -> None:
    export_dataset(database, tmp_path / "pq", form="parquet", snapshot_id=made)
    table = pq.read_table(tmp_path / "pq" / "train.parquet")
    assert table.column("positive").to_pylist() == [row.title for row in examples(database, made, "train")]
    assert pq.ParquetFile(tmp_path / "pq" / "train.parquet").num_row_groups == 2, "streamed in batches"
    from PIL import Image as Pillow  # noqa: PLC0415

    assert Pillow.open(io.BytesIO(table.column("anchor")[0].as_py()["bytes"])).size == (48, 36)
    with quiet_libraries():
        loaded = load_dataset("parquet", data_dir=str(tmp_path / "pq"), cache_dir=str(tmp_path / "cache"))
    assert loaded["test"][0]["anchor"].size == (48, 36)


def command(database: Database, folder: Path, *form: str) -> list[str]:
    return [sys.executable, "-m", "thumbtune", "--db", url_of(database), "-q", "export", "dataset", str(folder), *form]


def assert_whole(folder: Path) -> None:
    """Both forms have all three splits and nothing else."""
    names = {path.name.removesuffix(".parquet") for path in folder.iterdir()}
    assert names - {"dataset_dict.json", ".thumbtune-export"} == {"train", "validation", "test"}


def short_files() -> None:
    """No file can exceed 300 kB: further writes fail, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


FORMS = [(), ("--parquet",)]


@pytest.mark.processes
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_a_failed_export_can_be_repeated(
    sqlite_database: Database, tmp_path: Path, form: tuple[str, ...], there: bool
) -> None:
    """The second of three splits is too long for a file."""
    fill(sqlite_database, 40)
    long = next(row.video_id for row in snapshot.select_pairs(sqlite_database).examples if row.split == "valid")
    with sqlite_database.write() as session:
        change_video(session, long, picture=np.random.default_rng(1).bytes(1_000_000))
    chosen = snapshot.select_pairs(sqlite_database)
    snapshot.write_snapshot(sqlite_database, chosen, chosen.examples, TrainSettings(negatives="none"), None)
    folder = tmp_path / "datasets" / "ds"
    if there:
        folder.mkdir(parents=True)
    arguments = command(sqlite_database, folder, *form)

    stopped = subprocess.run(arguments, preexec_fn=short_files, check=False, capture_output=True, text=True)
    assert stopped.returncode == 1
    assert stopped.stderr.startswith(f"error: {folder} can't be written (")
    assert [*folder.parent.rglob("*")] == [folder] * there, "no partial dataset, and no temporary files"

    forked.run(arguments, check=True)
    assert [*folder.parent.iterdir()] == [folder]
    assert_whole(folder)


# $1: the folder; the rest: the command. Prints each exit code.
ON_A_FULL_DISK = """
disk=$1; shift
mount -t tmpfs -o size=4k tmpfs "$disk" || exit 99
"$@" >&2; echo $?; cp -r "$disk" "$disk-first"
mount -o remount,size=1g "$disk" || exit 99
"$@" >&2; echo $?; cp -r "$disk" "$disk-second"
"""


@pytest.mark.processes
@pytest.mark.skipif(not can_mount(), reason="file systems may not be mounted here")
@pytest.mark.parametrize("form", FORMS)
def test_after_a_full_disk_the_folder_is_empty_and_the_next_export_fills_it(
    sqlite_database: Database, tmp_path: Path, form: tuple[str, ...]
) -> None:
    """A mount point: nothing can be renamed into it from outside, and it can't be replaced."""
    fill(sqlite_database, 40)
    chosen = snapshot.select_pairs(sqlite_database)
    snapshot.write_snapshot(sqlite_database, chosen, chosen.examples, TrainSettings(negatives="none"), None)
    disk = tmp_path / "disk"
    disk.mkdir()
    shell = [*UNSHARE, "sh", "-c", ON_A_FULL_DISK, "sh", str(disk), *command(sqlite_database, disk, *form)]
    done = subprocess.run(shell, check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "0"], done.stderr
    assert done.stderr.startswith(f"error: {disk} can't be written")
    assert not any((tmp_path / "disk-first").iterdir())
    assert_whole(tmp_path / "disk-second")


@pytest.mark.processes
@pytest.mark.skipif(not can_mount(), reason="file systems may not be mounted here")
@pytest.mark.parametrize("form", FORMS)
def test_a_folder_mounted_from_the_same_disk_is_filled(
    sqlite_database: Database, tmp_path: Path, form: tuple[str, ...]
) -> None:
    """A bind mount: it looks like any folder, but nothing can be renamed into it."""
    fill(sqlite_database, 10)
    chosen = snapshot.select_pairs(sqlite_database)
    snapshot.write_snapshot(sqlite_database, chosen, chosen.examples, TrainSettings(negatives="none"), None)
    source, folder = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    folder.mkdir()
    mounted = 'mount --bind "$1" "$2" || exit 99; shift 2; exec "$@"'
    shell = [*UNSHARE, "sh", "-c", mounted, "sh", str(source), str(folder), *command(sqlite_database, folder, *form)]
    subprocess.run(shell, check=True)
    assert_whole(source)
    assert not any(folder.iterdir())


@pytest.mark.parametrize("form", ["dataset", "parquet"])
def test_an_existing_folder_is_kept_and_filled(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    """A link points to the folder, and it is a shell's working folder."""
    fill(sqlite_database, 10)
    (tmp_path / "datasets" / "ds").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "datasets" / "ds")
    monkeypatch.chdir(tmp_path / "link")
    export_dataset(sqlite_database, tmp_path / "link", form=form)
    assert (tmp_path / "link").is_symlink()
    assert_whole(Path())
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == ["ds"]


@pytest.mark.parametrize("form", ["dataset", "parquet"])
def test_the_target_path_is_checked_as_given(sqlite_database: Database, tmp_path: Path, form: Form) -> None:
    """The folder `new` of `new/..` does not exist."""
    fill(sqlite_database, 10)
    export_dataset(sqlite_database, tmp_path / "new" / ".." / "ds")
    with pytest.raises(CantSave, match=r"new/\.\./ds is not an empty folder"):
        export_dataset(sqlite_database, tmp_path / "new" / ".." / "ds", form=form)
    assert_whole(tmp_path / "ds")
    assert not (tmp_path / "ds" / "train.parquet").exists()


@pytest.mark.processes
@pytest.mark.parametrize("name", ["", " "])
@pytest.mark.parametrize("form", [("dataset",), ("dataset", "--parquet"), ("model",), ("--model",)])
def test_an_empty_name_is_not_the_current_folder(
    sqlite_database: Database, tmp_path: Path, form: tuple[str, ...], name: str
) -> None:
    fill(sqlite_database, 10)
    (tmp_path / "here").mkdir()
    arguments = [*forked.THUMBTUNE, "--db", url_of(sqlite_database), "export", *form, name]
    done = forked.run(arguments, check=False, capture_output=True, text=True, cwd=tmp_path / "here")
    assert done.returncode == 2
    assert "'DIR'" in done.stderr.splitlines()[-1]
    assert [*(tmp_path / "here").iterdir()] == []


def test_without_a_snapshot_a_new_snapshot_is_exported(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, 10)
    written = export_dataset(sqlite_database, tmp_path / "ds")
    assert written.examples == {"train": 7, "valid": 1, "test": 2}
    with quiet_libraries():
        negatives = load_from_disk(str(tmp_path / "ds"))["train"]["negative"]
    assert None not in list(negatives)


def test_empty_splits_are_left_out(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, 3)
    assert export_dataset(sqlite_database, tmp_path / "ds").examples == {"train": 2, "test": 1}
    with quiet_libraries():
        assert set(load_from_disk(str(tmp_path / "ds"))) == {"train", "test"}


def test_exports_that_are_refused(sqlite_database: Database, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughPairs):
        export_dataset(sqlite_database, tmp_path / "ds")
    for unknown in (7, 0, -1):
        with pytest.raises(NotFound, match=str(unknown)):
            export_dataset(sqlite_database, tmp_path / "ds", snapshot_id=unknown)
    with pytest.raises(NotFound, match="there is no run 7"):
        export_dataset(sqlite_database, tmp_path / "ds", run_id=7)
    with pytest.raises(CantSave, match="is not an empty folder"):
        export_dataset(sqlite_database, tmp_path)
    assert not (tmp_path / "ds").exists()


@pytest.mark.slow
def test_all_current_pairs_are_exported_after_a_run_on_some_channels(sqlite_database: Database, tmp_path: Path) -> None:
    database = sqlite_database
    fill(database, 10)
    fill(database, 10, "UC2")
    chosen = snapshot.select_pairs(database, ["UC2"])
    rows = mine_negatives(chosen, TrainSettings(negatives="random"), lambda _titles: pytest.fail("random"))
    narrow = snapshot.write_snapshot(database, chosen, rows, TrainSettings(negatives="random"), None)[0]
    written = export_dataset(database, tmp_path / "all", form="parquet")
    assert sum(written.examples.values()) == 20
    assert written.snapshot_id != narrow
    assert sum(export_dataset(database, tmp_path / "two", channels=["UC2"]).examples.values()) == 10
    assert export_dataset(database, tmp_path / "run", snapshot_id=narrow).snapshot_id == narrow


def test_an_export_has_the_metadata_of_the_videos(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, 10)
    with sqlite_database.write() as session:
        digest = session.execute(select(Video.picture_sha256).where(Video.id == "UC1-003")).scalar_one()
        write_words(session, "a reader", {str(digest): "GO"}, utc_now())
        session.execute(update(Video).values(api_item={"snippet": {"tags": ["a", "b"]}}))
    export_dataset(sqlite_database, tmp_path / "csv", form="csv")
    files = [tmp_path / "csv" / f"{split}.csv" for split in ("train", "validation", "test")]
    rows = [row for file in files for row in csv.DictReader(file.read_text().splitlines())]
    assert list(rows[0])[:3] == ["anchor", "positive", "negative"]
    assert {row["video_id"]: row["thumbnail_text"] for row in rows if row["thumbnail_text"]} == {"UC1-003": "GO"}
    assert {(row["channel"], row["tags"]) for row in rows} == {("@uc1", "a, b")}
    assert all(row["negative"] != row["positive"] for row in rows)
    assert all((tmp_path / "csv" / row["anchor"]).is_file() for row in rows)


def test_only_an_earlier_export_is_overwritten(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, 10)
    export_dataset(sqlite_database, tmp_path / "ds", form="parquet")
    with pytest.raises(CantSave):
        export_dataset(sqlite_database, tmp_path / "ds")
    export_dataset(sqlite_database, tmp_path / "ds", form="csv", overwrite=True)
    assert not list((tmp_path / "ds").glob("*.parquet"))
    (tmp_path / "ds" / "notes.txt").write_text("mine")
    with pytest.raises(CantSave):
        export_dataset(sqlite_database, tmp_path / "ds", overwrite=True)
    assert (tmp_path / "ds" / "notes.txt").read_text() == "mine"
    picture = tmp_path / "theirs" / "train" / "001.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"mine")
    with pytest.raises(CantSave):
        export_dataset(sqlite_database, tmp_path / "theirs", overwrite=True)
    assert picture.read_bytes() == b"mine", "only the names of its folders are those of splits"
