"""Sharded exports, read back by the libraries that other engines read them with."""

from __future__ import annotations

import gc
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import webdataset
from datasets import load_dataset

from store.db import Database
from store.training import load_examples, read_pictures
from tests.trainer.tiny import fill
from trainer.data import export_dataset, mine_negatives, snapshot
from trainer.data.export_shards import shard_sizes
from trainer.errors import CantSave
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings


def filled(database: Database, n: int) -> int:
    fill(database, n)
    chosen = snapshot.select_pairs(database)
    settings = TrainSettings(negatives="random")
    rows = mine_negatives(chosen, settings, lambda _titles: pytest.fail("random compares nothing"))
    return snapshot.write_snapshot(database, chosen, rows, settings, None)[0]


def as_open_clip(shards: str) -> list[tuple[Any, ...]]:
    """Read as the reader of open_clip 3.3 does, without its transforms and batches."""
    steps = [
        webdataset.SimpleShardList(shards),
        webdataset.split_by_worker,
        webdataset.tarfile_to_samples(),
        webdataset.select(lambda row: "txt" in row and any(name in row for name in ("png", "jpg", "jpeg", "webp"))),
        webdataset.decode("pilrgb"),
        webdataset.rename(image="jpg;png;jpeg;webp", text="txt"),
        webdataset.to_tuple("image", "text", "json"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # webdataset leaves files to the garbage collector
        rows = list(webdataset.DataPipeline(*steps))
        gc.collect()
    return rows


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.slow
def test_webdataset_shards_equal_the_snapshot(database: Database, tmp_path: Path) -> None:
    made = filled(database, 100)
    written = export_dataset(database, tmp_path / "wds", form="webdataset", shards=3)
    assert (written.snapshot_id, written.examples) == (made, {"train": 70, "valid": 15, "test": 15})
    names = [f"{split}-0000{number}.tar" for split in ("test", "train", "validation") for number in range(3)]
    assert sorted(digests(tmp_path / "wds")) == sorted([*names, "sizes.json", ".thumbtune-export"])
    sizes = json.loads((tmp_path / "wds" / "sizes.json").read_text())
    assert [sizes[f"train-0000{number}.tar"] for number in range(3)] == [23, 23, 24]
    rows = as_open_clip(str(tmp_path / "wds" / "train-{00000..00002}.tar"))
    with database.read() as session:
        expected = [row for row in load_examples(session, made) if row.split == "train"]
        titles = {row.position: row.title for row in load_examples(session, made)}
    assert [text for _, text, _ in rows] == [row.title for row in expected]
    assert [facts["video_id"] for *_, facts in rows] == [row.video_id for row in expected]
    assert [facts["negative"] for *_, facts in rows] == [titles[row.negative_position or 0] for row in expected]
    assert rows[0][0].size == (48, 36)
    export_dataset(database, tmp_path / "again", form="webdataset", shards=3)
    assert digests(tmp_path / "again") == digests(tmp_path / "wds")
    export_dataset(database, tmp_path / "wds", form="webdataset", shards=1, overwrite=True)
    assert "train-00001.tar" not in digests(tmp_path / "wds"), "no shard of the earlier export is left"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_the_datasets_library_reads_the_shards(sqlite_database: Database, tmp_path: Path, form: Any) -> None:
    made = filled(sqlite_database, 40)
    export_dataset(sqlite_database, tmp_path / "ds", form=form, shards=4)
    names = sorted(path.name for path in (tmp_path / "ds").glob("train-*"))
    assert len(names) == 4
    files = {split: [str(path) for path in sorted((tmp_path / "ds").glob(f"{split}-*"))] for split in ("train", "test")}
    with quiet_libraries():
        loaded = load_dataset(form, data_files=files, cache_dir=str(tmp_path / "cache"))
    with sqlite_database.read() as session:
        expected = [row for row in load_examples(session, made) if row.split == "train"]
        content = read_pictures(session, [expected[0].picture_sha256])
    title, picture = ("txt", "png") if form == "webdataset" else ("positive", "anchor")
    assert loaded["train"][title][:] == [row.title for row in expected]
    assert loaded["train"][0][picture].size == (48, 36)
    assert len(content) == 1


@pytest.mark.slow
def test_shards_can_be_of_one_channel_and_without_negatives(sqlite_database: Database, tmp_path: Path) -> None:
    """These rows are not read as they are written, because their negatives are chosen for the export."""
    fill(sqlite_database, 30)
    chosen = snapshot.select_pairs(sqlite_database)
    snapshot.write_snapshot(sqlite_database, chosen, chosen.examples, TrainSettings(negatives="none"), None)
    written = export_dataset(sqlite_database, tmp_path / "wds", form="webdataset", channels=["@uc1"])
    rows = as_open_clip(str(tmp_path / "wds" / "train-00000.tar"))
    assert len(rows) == written.examples["train"] == chosen.counts()["train"]
    assert all(facts["negative"] not in (None, text) for _, text, facts in rows)


def test_a_folder_with_a_foreign_file_is_not_replaced(sqlite_database: Database, tmp_path: Path) -> None:
    filled(sqlite_database, 20)
    export_dataset(sqlite_database, tmp_path / "wds", form="webdataset")
    (tmp_path / "wds" / "mine-00000.tar").touch()
    with pytest.raises(CantSave):
        export_dataset(sqlite_database, tmp_path / "wds", form="webdataset", overwrite=True)


@pytest.mark.parametrize(("rows", "shards", "sizes"), [(10, 3, [3, 3, 4]), (2, 5, [1, 1]), (4, 1, [4])])
def test_shards_are_even_and_not_empty(rows: int, shards: int, sizes: list[int]) -> None:
    assert shard_sizes(rows, shards) == sizes
