"""`thumbtune export`: write the dataset, or a run's model, to a folder."""

from __future__ import annotations

from pathlib import Path

import click

from thumbtune.cli import App
from thumbtune.commands.train import Shown
from thumbtune.commands.training_options import NewFolder

__all__ = ["export"]


@click.command()
@click.argument("folder", metavar="DIR", type=NewFolder())
@click.option(
    "--run", "run_id", type=int, metavar="N", help="The snapshot that run N trained on; with --model, run N's model."
)
@click.option("--snapshot", "snapshot_id", type=int, metavar="N", help="Snapshot N.  [default: the newest]")
@click.option("--parquet", is_flag=True, help="Write one Parquet file per split instead of a DatasetDict.")
@click.option(
    "--model", "whole_model", is_flag=True, help="Write a run's whole model instead.  [default: the champion's]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def export(
    app: App,
    /,
    folder: Path,
    run_id: int | None,
    snapshot_id: int | None,
    parquet: bool,
    whole_model: bool,
    as_json: bool,
) -> None:
    """Write a snapshot with its thumbnails, or a run's model, to the new folder DIR.

    The dataset is a Hugging Face DatasetDict: load_from_disk(DIR) reads it. Its columns are anchor (the thumbnail),
    positive, negative, video_id, channel_id; for sentence-transformers keep the first three. The model is a folder that
    SentenceTransformer(DIR) loads. The dataset contains titles, and the model has learnt from them: take care who gets
    DIR.
    """
    if run_id is not None and snapshot_id is not None:
        raise click.UsageError("--run and --snapshot exclude each other; give one of them.")
    if whole_model and (parquet or snapshot_id is not None):
        raise click.UsageError("--model can only be combined with --run.")
    app.console.json_wanted = as_json
    with app.open_database() as database:
        if whole_model:
            from trainer.runs import export_model  # noqa: PLC0415 (loads torch)

            chosen = export_model(database, folder, run_id)
            app.console.say(f"run {chosen}'s model: {folder}")
            document: dict[str, object] = {"model": str(folder), "run_id": chosen}
        else:
            from trainer.data import export_dataset  # noqa: PLC0415 (loads datasets)

            written = export_dataset(
                database, folder, snapshot_id=snapshot_id, run_id=run_id, parquet=parquet, progress=Shown(app.console)
            )
            counts = ", ".join(f"{n} {split}" for split, n in written.examples.items())
            app.console.say(f"snapshot {written.snapshot_id}: {counts} examples in {folder}")
            document = {"dataset": str(folder), "snapshot_id": written.snapshot_id, "examples": written.examples}
    if as_json:
        app.console.print_json(document)
