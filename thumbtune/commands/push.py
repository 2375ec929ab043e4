"""`thumbtune push`: put a run's model, or the dataset, on the Hugging Face Hub."""

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
    help="Run N's model, or the snapshot that it trained on.  [default: the model in use; the newest snapshot]",
)
@click.option("--public", is_flag=True, help="Let everyone read it.  [default: only you]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def push(
    app: App, /, repo: str, whole_model: bool, dataset: bool, run_id: int | None, public: bool, as_json: bool
) -> None:
    """Put a run's model, or the dataset, on the Hugging Face Hub, as REPO (OWNER/NAME, or NAME of your own).

    A new repository is private unless you say --public; one that is there and public is refused unless you do. The
    token is the one of 'hf auth login', or HF_TOKEN.
    """
    if whole_model == dataset:
        raise click.UsageError("say what to push: --model or --dataset, one of them.")
    app.console.json_wanted = as_json
    database = app.open_database()
    try:
        from trainer.hub import push_dataset, push_model  # noqa: PLC0415 (loads torch)

        if dataset:
            readers = "everyone" if public else "only those whom you let in"
            app.console.note(f"the dataset holds titles and thumbnails, their creators' own; {readers} can read it")
        send = push_dataset if dataset else push_model
        done = send(database, repo, run_id, private=not public, progress=Shown(app.console))
    finally:
        database.close()
    source = f"snapshot {done.source_id}" if dataset else f"run {done.source_id}'s model"
    app.console.say(f"{source}: {done.url} ({'private' if done.private else 'public'})")
    if public and done.private:
        app.console.note("the repository was private before, and stays so; its settings on the hub can change that")
    if as_json:
        app.console.print_json({"what": "dataset" if dataset else "model", **asdict(done)})
