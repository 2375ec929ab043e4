"""Export a snapshot as a dataset with its thumbnails, streamed: a Hugging Face DatasetDict or Parquet files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features, Image, Value
from numpy.typing import NDArray

from store.db import Database
from store.training import ExampleRow, get_run, load_examples, newest_snapshot, read_pictures
from trainer.artifacts import can_save, check_empty, whole_folder
from trainer.data import snapshot
from trainer.data.splits import SPLITS
from trainer.errors import RunUnusable
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries
from trainer.settings import TrainSettings

__all__ = ["Exported", "export_dataset"]

_BATCH = 64


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Args:
        folder: the folder that was written.
        snapshot_id: the exported snapshot.
        examples: {split: number of rows}; splits without rows are not written.
    """

    folder: Path
    snapshot_id: int
    examples: dict[str, int]


def export_dataset(
    database: Database,
    folder: Path,
    *,
    snapshot_id: int | None = None,
    run_id: int | None = None,
    parquet: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write a snapshot's examples with their thumbnails to a new folder; `load_from_disk(folder)` reads it.

    Columns: anchor (thumbnail), positive, negative (unless the snapshot has none), video_id, channel_id. To train with
    sentence-transformers, take the first two or three: its trainer reads every column, by position, as an input.
    The folder gets its files once all are complete, so a failed command can be run again.

    Args:
        database: the store.
        folder: new or empty.
        snapshot_id: the snapshot.
        run_id: export the snapshot that this run trained on. With neither, the newest snapshot; if the store has none,
            a new one of all pairs, with random negatives.
        parquet: write `train.parquet`, `valid.parquet` and `test.parquet` instead.
        progress: receives the number of examples done.

    Raises:
        CantSave: the folder is not empty, or can't be written.
        NotFound: no such snapshot or run.
        NotEnoughPairs: there is nothing to export.
    """
    check_empty(folder)
    chosen = _chosen(database, snapshot_id, run_id)
    with database.read() as session:
        rows = load_examples(session, chosen)
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    by_split = {split: inside for split, inside in by_split.items() if inside}
    features = _features(any(row.negative_position is not None for row in rows))
    titles = {row.position: row.title for row in rows}
    with (
        quiet_libraries(),
        can_save(folder),
        (progress or Silent()).phase(f"Writing {folder}", len(rows)) as count,
    ):
        streams = {split: _Stream(database, inside, titles, count) for split, inside in by_split.items()}
        with whole_folder(folder) as whole:
            if parquet:
                for split, stream in streams.items():
                    _write_parquet(whole / f"{split}.parquet", stream, features)
            else:
                _write_dataset_dict(whole, streams, features)
    return Exported(folder, chosen, {split: len(inside) for split, inside in by_split.items()})


def _chosen(database: Database, snapshot_id: int | None, run_id: int | None) -> int:
    if snapshot_id is not None:
        return snapshot_id
    with database.read() as session:
        found = newest_snapshot(session) if run_id is None else get_run(session, run_id).snapshot_id
    if found is not None:
        return found
    if run_id is not None:
        raise RunUnusable(f"run {run_id} has no snapshot; export another run's")
    selection = snapshot.select_pairs(database)
    settings = TrainSettings(negatives="random")
    rows = snapshot.mine_negatives(selection, settings, _never)
    return snapshot.write_snapshot(database, selection, rows, settings, None)[0]


def _never(_titles: Sequence[str]) -> NDArray[np.float32]:
    raise AssertionError("random negatives need no vectors of titles")


def _features(with_negatives: bool) -> Features:
    columns: dict[str, Any] = {"anchor": Image(), "positive": Value("string")}
    if with_negatives:
        columns["negative"] = Value("string")
    return Features({**columns, "video_id": Value("string"), "channel_id": Value("string")})


@dataclass(frozen=True)
class _Stream:
    """The rows of one split as plain values; thumbnails are read from the store in batches."""

    database: Database
    rows: Sequence[ExampleRow]
    titles: dict[int, str]
    count: Callable[[int], None]

    def batches(self, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        for start in range(0, len(self.rows), _BATCH):
            batch = self.rows[start : start + _BATCH]
            with self.database.read() as session:
                files = read_pictures(session, (row.picture_sha256 for row in batch))
            values = [self._values(row, files[row.picture_sha256]) for row in batch]
            yield [{column: value[column] for column in columns} for value in values]
            self.count(len(batch))

    def _values(self, row: ExampleRow, file: bytes) -> dict[str, Any]:
        negative = None if row.negative_position is None else self.titles[row.negative_position]
        return {
            "anchor": {"bytes": file, "path": None},
            "positive": row.title,
            "negative": negative,
            "video_id": row.video_id,
            "channel_id": row.channel_id,
        }


def _write_parquet(path: Path, stream: _Stream, features: Features) -> None:
    # The schema carries the features as metadata, so that `load_dataset("parquet", ...)` decodes the thumbnails.
    schema = features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        for batch in stream.batches(list(features)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def _write_dataset_dict(folder: Path, streams: dict[str, _Stream], features: Features) -> None:
    with tempfile.TemporaryDirectory(prefix=".thumbtune-", dir=folder.parent) as scratch:
        written = {}
        for split, stream in streams.items():
            path = Path(scratch) / f"{split}.parquet"
            _write_parquet(path, stream, features)
            # Memory-mapped from here on.
            written[split] = Dataset.from_parquet(str(path), cache_dir=scratch, split=split)
        DatasetDict(written).save_to_disk(str(folder))
