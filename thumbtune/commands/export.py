"""`thumbtune export`: write the dataset, or a run's model, to a folder."""

from __future__ import annotations

from pathlib import Path

import click

from thumbtune.cli import App
from thumbtune.commands.options import DatasetOrModel, channel_option, json_option, run_option
from thumbtune.commands.training_options import NewFolder
from thumbtune.early import check_any_run, check_names, check_output
from thumbtune.interrupts import work_is_complete

__all__ = ["export"]


@click.group(cls=DatasetOrModel, unnamed="dataset")
def export() -> None:
    """Write the dataset, or a run's model, to a new folder."""


@export.command(short_help="Write pairs with their thumbnails.")
@click.argument("folder", metavar="DIR", type=NewFolder())
@run_option("The pairs that run N was trained on.")
@click.option(
    "--snapshot", "snapshot_id", type=int, metavar="N", help="The pairs of snapshot N.  [default: all current pairs]"
)
@channel_option()
@click.option("--parquet", is_flag=True, help="Write one Parquet file per split instead of a DatasetDict.")
@click.option("--csv", is_flag=True, help="Write one CSV file per split, and the thumbnails as files.")
@click.option("--webdataset", is_flag=True, help="Write WebDataset tar files, as open_clip reads them.")
@click.option(
    "--shards",
    type=click.IntRange(1, 99_999),
    metavar="N",
    help="Write N files of equal size per split, with --parquet or --webdataset.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier export in DIR.")
@json_option
@click.pass_obj
def dataset(
    app: App,
    /,
    folder: Path,
    run_id: int | None,
    snapshot_id: int | None,
    channels: tuple[str, ...],
    parquet: bool,
    csv: bool,
    webdataset: bool,
    shards: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write pairs with their thumbnails to the new folder DIR.

    The dataset is a Hugging Face DatasetDict, which load_from_disk(DIR) loads. Its splits are train, validation and
    test. Its columns are anchor (the thumbnail), positive, negative, video_id, channel_id, channel, published_at, tags,
    url, and thumbnail_text if words were read. To train with sentence-transformers, select the first three columns.
    Titles and thumbnails belong to their creators, so be careful with whom you share DIR.
    """
    if run_id is not None and snapshot_id is not None:
        raise click.UsageError("--run and --snapshot exclude each other; give one of them.")
    if parquet + csv + webdataset > 1:
        raise click.UsageError("--parquet, --csv and --webdataset exclude each other; give one of them.")
    if shards is not None and not (parquet or webdataset):
        raise click.UsageError("--shards needs --parquet or --webdataset.")
    from trainer.data import SPLIT_NAMES, check_export_folder  # noqa: PLC0415

    with app.open_database() as database:
        check_export_folder(folder, overwrite=overwrite)
        check_names(database, channels, run_id=run_id)
        from trainer.data import export_dataset  # noqa: PLC0415 (loads datasets)

        written = export_dataset(
            database,
            folder,
            snapshot_id=snapshot_id,
            run_id=run_id,
            channels=channels,
            form="parquet" if parquet else "csv" if csv else "webdataset" if webdataset else "dataset",
            shards=shards,
            overwrite=overwrite,
            progress=app.console,
        )
        work_is_complete()
    splits = {SPLIT_NAMES[split]: n for split, n in written.examples.items()}
    counts = ", ".join(f"{n} {split}" for split, n in splits.items())
    app.console.say(f"snapshot {written.snapshot_id}: {counts} examples in {folder}")
    if as_json:
        app.console.print_json(
            {
                "dataset": str(folder),
                "snapshot_id": written.snapshot_id,
                "examples": written.examples,
                "splits": splits,
            }
        )


@export.command(short_help="Write a run's whole model.")
@click.argument("folder", metavar="DIR", type=NewFolder())
@run_option("Run N's model.  [default: the champion]")
@json_option
@click.pass_obj
def model(app: App, /, folder: Path, run_id: int | None, as_json: bool) -> None:
    """Write a run's whole model to the new folder DIR, which SentenceTransformer(DIR) loads.

    The model was trained on titles and thumbnails that belong to their creators, so be careful with whom you share DIR.
    """
    with app.open_database() as database:
        check_output(folder)
        check_names(database, run_id=run_id)
        if run_id is None:
            check_any_run(database)
        from trainer.runs import export_model  # noqa: PLC0415 (loads torch)

        chosen = export_model(database, folder, run_id)
        work_is_complete()
    app.console.say(f"run {chosen}'s model: {folder}")
    if as_json:
        app.console.print_json({"model": str(folder), "run_id": chosen})
