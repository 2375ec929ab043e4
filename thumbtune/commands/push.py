"""`thumbtune push`: push a run's model, or the dataset, to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict

import click

from thumbtune.cli import App
from thumbtune.commands.train import Shown

__all__ = ["push"]


@click.command()
@click.argument("repo", metavar="REPO")
@click.option("--model", "whole_model", is_flag=True, help="Push a run's whole model.")
@click.option("--dataset", is_flag=True, help="Push a snapshot, titles and thumbnails included.")
@click.option(
    "--run",
    "run_id",
    type=int,
    metavar="N",
    help="Run N's model, or the snapshot that it trained on.  [default: the champion's model; the newest snapshot]",
)
@click.option("--public", is_flag=True, help="Make a new repository public.  [default: private]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def push(
    app: App, /, repo: str, whole_model: bool, dataset: bool, run_id: int | None, public: bool, as_json: bool
) -> None:
    """Push a run's model, or the dataset, to the Hugging Face Hub as REPO (OWNER/NAME, or NAME for your own account).

    A new repository is private unless you use --public; an existing public one is refused unless you do. The token is
    that of 'hf auth login', or HF_TOKEN.
    """
    if whole_model == dataset:
        raise click.UsageError("give either --model or --dataset.")
    app.console.json_wanted = as_json
    with app.open_database() as database:
        from trainer.publish import push_dataset, push_model  # noqa: PLC0415 (loads torch)

        if dataset:
            readers = "everyone" if public else "only people with access"
            app.console.note(
                f"the dataset contains titles and thumbnails that belong to their creators; {readers} can read it"
            )
        send = push_dataset if dataset else push_model
        done = send(database, repo, run_id, private=not public, progress=Shown(app.console))
    source = f"snapshot {done.source_id}" if dataset else f"run {done.source_id}'s model"
    app.console.say(f"{source}: {done.url} ({'private' if done.private else 'public'})")
    if public and done.private:
        app.console.note("the repository was private and stays private; change that in its settings on the hub")
    if as_json:
        app.console.print_json({"what": "dataset" if dataset else "model", **asdict(done)})
