"""Export pairs with their thumbnails as a DatasetDict, Parquet, CSV or WebDataset files, in a stream."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, Features, Image, Value

from store.db import Database
from store.training import (
    ExampleRow,
    any_texts,
    channel_titles,
    every_negative,
    example_batches,
    get_run,
    load_examples,
    read_pictures,
    snapshot_info,
    texts_of,
    video_facts,
)
from store.video_links import video_url
from trainer.artifacts import can_save, whole_folder
from trainer.data import snapshot
from trainer.data.channel_names import channel_id
from trainer.data.export_folder import MARK, SIZES, SPLIT_NAMES, check_export_folder
from trainer.data.export_shards import shard_sizes, suffix_of, write_tar
from trainer.data.splits import SPLITS
from trainer.errors import NotEnoughPairs, RunUnusable
from trainer.progress import Progress, Silent
from trainer.quiet import quiet_libraries

__all__ = ["Exported", "Form", "export_dataset"]

_BATCH = 64
Form = Literal["dataset", "parquet", "csv", "webdataset"]


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Args:
        folder: the folder that was written.
        snapshot_id: the exported snapshot.
        examples: {split: number of rows}. Splits without rows are not written.
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
    channels: Sequence[str] = (),
    form: Form = "dataset",
    shards: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write examples with their thumbnails to a new folder. `load_from_disk(folder)` reads the form `dataset`.

    Columns: anchor (thumbnail), positive, negative, video_id, channel_id, channel (handle), published_at, tags, url,
    and thumbnail_text if the store has text read from one of the thumbnails. To train with sentence-transformers,
    select the first three columns: its trainer reads every column, by position, as an input. A negative is missing only
    if its split has no title of another group. The splits are named `train`, `validation` and `test`.
    The files are moved into the folder after all of them are complete, so a failed command can be run again.

    If neither `snapshot_id` nor `run_id` is given, all current pairs are exported: from the newest snapshot if it has
    the same pairs, else from a new snapshot with random negatives.

    Args:
        database: the store.
        folder: a new or empty folder.
        snapshot_id: the snapshot to export.
        run_id: export the snapshot that this run trained on.
        channels: ids or handles of the channels to export; empty for all channels.
        form: `dataset` writes a DatasetDict, `parquet` one Parquet file per split, `csv` one CSV file per split and a
            folder `thumbnails`, and `webdataset` tar files and `sizes.json` with their numbers of rows.
        shards: the number of files per split, of equal size, for `parquet` and `webdataset`; None: one.
        overwrite: replace an earlier export in `folder`.
        progress: receives the number of examples done.

    Raises:
        CantSave: the folder is not empty, or can't be written.
        NotFound: the snapshot or run does not exist.
        BadSetting: a channel is not in the store.
        NotEnoughPairs: there are no pairs to export.
    """
    check_export_folder(folder, overwrite=overwrite)
    with database.read() as session:
        known = channel_titles(session)
    channel_ids = tuple(channel_id(name, known) for name in channels)
    progress = progress or Silent()
    chosen = _chosen(database, run_id, channel_ids, progress) if snapshot_id is None else snapshot_id
    with quiet_libraries(), can_save(folder):
        sources = _sources(database, chosen, channel_ids)
        if not sources:
            raise NotEnoughPairs(f"snapshot {chosen} has no pairs of {', '.join(channels)}")
        counts = {split: source.count for split, source in sources.items()}
        features = _features(with_text=_with_text(database, chosen, sources))
        with progress.phase(f"Writing {folder}", sum(counts.values())) as count:
            streams = {
                SPLIT_NAMES[split]: _Stream(database, source, list(features), count)
                for split, source in sources.items()
            }
            if overwrite and folder.exists():
                _replace(folder, streams, features, form, shards)
            else:
                with whole_folder(folder) as whole:
                    _write(whole, streams, features, form, shards)
    return Exported(folder, chosen, counts)


def _write(folder: Path, streams: dict[str, _Stream], features: Features, form: Form, shards: int | None) -> None:
    (folder / MARK).write_text("Written by 'thumbtune export dataset', which may replace this folder.\n")
    if form == "dataset":
        _write_dataset_dict(folder, streams, features)
        return
    if form == "csv":
        for split, stream in streams.items():
            _write_csv(folder, split, stream, features)
        return
    written: dict[str, int] = {}
    for split, stream in streams.items():
        rows, first = stream.rows(), 0
        sizes = shard_sizes(stream.source.count, shards or 1)
        for number, size in enumerate(sizes):
            if form == "parquet":
                numbered = "" if shards is None else f"-{number:05d}-of-{len(sizes):05d}"
                _write_parquet(folder / f"{split}{numbered}.parquet", islice(rows, size), features)
            else:
                name = f"{split}-{number:05d}.tar"
                write_tar(folder / name, islice(rows, size), first)
                written[name] = size
            first += size
    if form == "webdataset":
        (folder / SIZES).write_text(json.dumps(written, indent=1) + "\n")


def _replace(folder: Path, streams: dict[str, _Stream], features: Features, form: Form, shards: int | None) -> None:
    """Write the new export completely before replacing the old one, so that a failure leaves the old one unchanged."""
    real = folder.resolve()
    with tempfile.TemporaryDirectory(prefix=".thumbtune-", dir=real.parent) as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        _write(new, streams, features, form, shards)
        real.replace(old)
        try:
            new.replace(real)
        except BaseException:
            old.replace(real)
            raise


def _with_negatives(rows: list[ExampleRow]) -> list[ExampleRow]:
    """Give a random title of its split to each row without a negative, or whose negative is not among the rows."""
    index_of = {row.position: index for index, row in enumerate(rows)}
    if all(row.negative_position in index_of for row in rows):
        return rows
    again = [replace(row, position=index, negative_position=None) for index, row in enumerate(rows)]
    mined = snapshot.random_negatives(snapshot.Selection(again, {}, ()))
    positions = [None if new.negative_position is None else rows[new.negative_position].position for new in mined]
    return [
        row if row.negative_position in index_of else replace(row, negative_position=position)
        for row, position in zip(rows, positions, strict=True)
    ]


def _chosen(database: Database, run_id: int | None, channels: tuple[str, ...], progress: Progress) -> int:
    if run_id is not None:
        with database.read() as session:
            found = get_run(session, run_id).snapshot_id
        if found is None:
            raise RunUnusable(f"run {run_id} has no snapshot; use another run")
        return found
    return snapshot.current_snapshot(database, channels, progress)


def _features(*, with_text: bool) -> Features:
    text = Value("string")
    columns: dict[str, Any] = {
        "anchor": Image(),
        "positive": text,
        "negative": text,
        "video_id": text,
        "channel_id": text,
        "channel": text,
        "published_at": Value("timestamp[s, tz=UTC]"),
        "tags": [text],
        "url": text,
    }
    return Features({**columns, "thumbnail_text": text} if with_text else columns)


class _Source(Protocol):
    """The rows of one split, in order, each with the title of its negative."""

    @property
    def count(self) -> int:
        """The number of rows."""

    def batches(self) -> Iterator[Sequence[tuple[ExampleRow, str | None]]]:
        """Yield the rows in batches of `_BATCH`."""


@dataclass(frozen=True)
class _InStore:
    """A whole split of a snapshot, which is read as it is written."""

    database: Database
    snapshot_id: int
    split: str
    count: int

    def batches(self) -> Iterator[Sequence[tuple[ExampleRow, str | None]]]:
        return example_batches(self.database, self.snapshot_id, self.split, _BATCH)


@dataclass(frozen=True)
class _InMemory:
    """A part of a snapshot, or one whose negatives had to be chosen for this export."""

    rows: Sequence[ExampleRow]
    titles: dict[int, str]

    @property
    def count(self) -> int:
        return len(self.rows)

    def batches(self) -> Iterator[Sequence[tuple[ExampleRow, str | None]]]:
        for start in range(0, len(self.rows), _BATCH):
            yield [
                (row, None if row.negative_position is None else self.titles[row.negative_position])
                for row in self.rows[start : start + _BATCH]
            ]


def _sources(database: Database, snapshot_id: int, channels: tuple[str, ...]) -> dict[str, _Source]:
    """Return the rows of each split with rows, of some channels or of all."""
    with database.read() as session:
        counts = snapshot_info(session, snapshot_id).counts
        if not channels and every_negative(session, snapshot_id):
            return {split: _InStore(database, snapshot_id, split, n) for split, n in counts.items() if n}
        examples = load_examples(session, snapshot_id)
    titles = {row.position: row.title for row in examples}
    rows = _with_negatives([row for row in examples if not channels or row.channel_id in channels])
    by_split = {split: [row for row in rows if row.split == split] for split in SPLITS}
    return {split: _InMemory(inside, titles) for split, inside in by_split.items() if inside}


def _with_text(database: Database, snapshot_id: int, sources: Mapping[str, _Source]) -> bool:
    """Whether words were read on any of the thumbnails."""
    with database.read() as session:
        if not any_texts(session, snapshot_id):
            return False
        return any(
            bool(texts_of(session, [row.picture_sha256 for row, _ in batch]))
            for source in sources.values()
            for batch in source.batches()
        )


@dataclass(frozen=True)
class _Stream:
    """The rows of one split as plain values. Thumbnails are read from the store in batches."""

    database: Database
    source: _Source
    columns: Sequence[str]
    progress: Callable[[int], None]

    def rows(self) -> Iterator[dict[str, Any]]:
        for batch in self.source.batches():
            with self.database.read() as session:
                files = read_pictures(session, (row.picture_sha256 for row, _ in batch))
                facts = video_facts(session, [row.video_id for row, _ in batch])
                texts = texts_of(session, [row.picture_sha256 for row, _ in batch])
            for row, negative in batch:
                value = {
                    "anchor": {"bytes": files[row.picture_sha256], "path": None},
                    "positive": row.title,
                    "negative": negative,
                    "video_id": row.video_id,
                    "channel_id": row.channel_id,
                    "channel": facts[row.video_id].channel,
                    "published_at": facts[row.video_id].published_at,
                    "tags": list(facts[row.video_id].tags),
                    "url": video_url(row.video_id),
                    "thumbnail_text": texts.get(row.picture_sha256),
                }
                yield {column: value[column] for column in self.columns}
            self.progress(len(batch))


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]], features: Features) -> None:
    # The schema has the features as metadata, so that `load_dataset("parquet", ...)` decodes the thumbnails.
    schema = features.arrow_schema
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))


def _write_csv(folder: Path, split: str, stream: _Stream, features: Features) -> None:
    """Write `SPLIT.csv`. Its first column is the path of the thumbnail file, relative to the folder."""
    thumbnails = folder / "thumbnails"
    thumbnails.mkdir(exist_ok=True)
    with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(features))
        writer.writeheader()
        for row in stream.rows():
            data = row["anchor"]["bytes"]
            place = thumbnails / f"{row['video_id']}{suffix_of(data)}"
            place.write_bytes(data)
            published = row["published_at"]
            writer.writerow(
                {
                    **row,
                    "anchor": f"thumbnails/{place.name}",
                    "published_at": None if published is None else published.isoformat(),
                    "tags": ", ".join(row["tags"]),
                }
            )


def _write_dataset_dict(folder: Path, streams: dict[str, _Stream], features: Features) -> None:
    with tempfile.TemporaryDirectory(prefix=".thumbtune-", dir=folder.parent) as scratch:
        written = {}
        for split, stream in streams.items():
            path = Path(scratch) / f"{split}.parquet"
            _write_parquet(path, stream.rows(), features)
            # The dataset is memory-mapped, so it does not have to fit in memory.
            written[split] = Dataset.from_parquet(str(path), cache_dir=scratch, split=split)
        DatasetDict(written).save_to_disk(str(folder))
