"""Exported datasets, read back by the libraries that users read them with."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Image, load_dataset, load_from_disk

from store.database import Database
from store.errors import NotFound
from store.pairs import read_pictures
from store.snapshots import ExampleRow, load_examples
from tests.store.builders import change_video
from tests.trainer.tiny import fill
from trainer import snapshot
from trainer.dataset import export_dataset
from trainer.errors import CantSave, NotEnoughPairs
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings


@pytest.fixture
def made(database: Database) -> int:
    """A snapshot of 100 pairs (more than one batch in train) with random negatives."""
    fill(database, 100)
    chosen = snapshot.select(database)
    settings = TrainSettings(negatives="random")
    rows = snapshot.mine(chosen, settings, lambda _titles: pytest.fail("random compares nothing"))
    return snapshot.save(database, chosen, rows, settings, None)[0]


def examples(database: Database, snapshot_id: int, split: str) -> list[ExampleRow]:
    with database.read() as session:
        return [row for row in load_examples(session, snapshot_id) if row.split == split]


def test_a_dataset_dict_is_the_snapshot(database: Database, made: int, tmp_path: Path) -> None:
    with database.write() as session:
        change_video(session, "UC1-000", title="renamed since")
    written = export_dataset(database, tmp_path / "ds")
    assert (written.snapshot_id, written.examples) == (made, {"train": 70, "valid": 15, "test": 15})
    with quiet_libraries():
        loaded = load_from_disk(str(tmp_path / "ds"))
    assert set(loaded) == {"train", "valid", "test"}
    titles = {row.position: row.title for split in loaded for row in examples(database, made, split)}
    for split in loaded:
        rows = examples(database, made, split)
        assert loaded[split].column_names == ["anchor", "positive", "negative", "video_id", "channel_id"]
        assert loaded[split]["positive"][:] == [row.title for row in rows]
        assert loaded[split]["negative"][:] == [titles[row.negative_position or 0] for row in rows]
        assert loaded[split]["video_id"][:] == [row.video_id for row in rows]
    assert loaded["train"][3]["anchor"].size == (48, 36)
    raw = loaded["train"].cast_column("anchor", Image(decode=False))[3]["anchor"]["bytes"]
    with database.read() as session:
        digest = examples(database, made, "train")[3].picture_sha256
        assert read_pictures(session, [digest])[digest] == raw
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["ds"], "no scratch left"


def test_parquet_files_are_the_snapshot(database: Database, made: int, tmp_path: Path) -> None:
    export_dataset(database, tmp_path / "pq", parquet=True, snapshot_id=made)
    table = pq.read_table(tmp_path / "pq" / "train.parquet")
    assert table.column("positive").to_pylist() == [row.title for row in examples(database, made, "train")]
    assert pq.ParquetFile(tmp_path / "pq" / "train.parquet").num_row_groups == 2, "streamed in batches"
    from PIL import Image as Pillow  # noqa: PLC0415

    assert Pillow.open(io.BytesIO(table.column("anchor")[0].as_py()["bytes"])).size == (48, 36)
    with quiet_libraries():
        loaded = load_dataset("parquet", data_dir=str(tmp_path / "pq"), cache_dir=str(tmp_path / "cache"))
    assert loaded["test"][0]["anchor"].size == (48, 36)


def test_without_a_snapshot_one_is_made(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, 10)
    written = export_dataset(sqlite_database, tmp_path / "ds")
    assert written.examples == {"train": 7, "valid": 1, "test": 2}
    with quiet_libraries():
        assert "negative" not in load_from_disk(str(tmp_path / "ds"))["train"].column_names


def test_empty_splits_are_left_out(sqlite_database: Database, tmp_path: Path) -> None:
    fill(sqlite_database, 3)
    assert export_dataset(sqlite_database, tmp_path / "ds").examples == {"train": 2, "test": 1}
    with quiet_libraries():
        assert set(load_from_disk(str(tmp_path / "ds"))) == {"train", "test"}


def test_what_cant_be_exported(sqlite_database: Database, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughPairs):
        export_dataset(sqlite_database, tmp_path / "ds")
    with pytest.raises(NotFound, match="there is no snapshot 7"):
        export_dataset(sqlite_database, tmp_path / "ds", snapshot_id=7)
    with pytest.raises(NotFound, match="there is no run 7"):
        export_dataset(sqlite_database, tmp_path / "ds", run_id=7)
    with pytest.raises(CantSave, match="is not an empty folder"):
        export_dataset(sqlite_database, tmp_path)
    assert not (tmp_path / "ds").exists()
