"""`thumbtune push`: push a run's model, or the dataset, to the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from thumbtune.cli import App
from thumbtune.commands.options import DatasetOrModel, json_option, run_option
from thumbtune.early import check_any_run, check_names

__all__ = ["push"]

_repo_argument = click.argument("repo", metavar="REPO")
_public_option = click.option("--public", is_flag=True, help="Make a new repository public.  [default: private]")


@click.group(cls=DatasetOrModel)
def push() -> None:
    """Push a run's model, or the dataset, to the Hugging Face Hub.

    A new repository is private unless you give --public. Without --public, nothing is pushed to an existing public
    repository. The token is that of 'hf auth login', or HF_TOKEN.
    """


@push.command(short_help="Push pairs with their thumbnails.")
@_repo_argument
@run_option("The pairs that run N was trained on.  [default: all current pairs]")
@_public_option
@json_option
@click.pass_obj
def dataset(app: App, /, public: bool, **options: Any) -> None:
    """Push pairs with their thumbnails to REPO (OWNER/NAME, or NAME for your own account)."""
    readers = "everyone" if public else "only people with access"
    app.console.note(f"the dataset contains titles and thumbnails that belong to their creators; {readers} can read it")
    _push(app, "dataset", "snapshot {}", public=public, **options)


@push.command(short_help="Push a run's whole model.")
@_repo_argument
@run_option("Run N's model.  [default: the champion]")
@_public_option
@json_option
@click.pass_obj
def model(app: App, /, **options: Any) -> None:
    """Push a run's whole model to REPO (OWNER/NAME, or NAME for your own account)."""
    _push(app, "model", "run {}'s model", **options)


def _push(app: App, what: str, source: str, *, repo: str, run_id: int | None, public: bool, as_json: bool) -> None:
    with app.open_database() as database:
        check_names(database, run_id=run_id)
        if what == "model" and run_id is None:
            check_any_run(database)
        from trainer.publish import push_dataset, push_model  # noqa: PLC0415 (loads torch)

        send = push_dataset if what == "dataset" else push_model
        done = send(database, repo, run_id, private=not public, progress=app.console)
    app.console.say(f"{source.format(done.source_id)}: {done.url} ({'private' if done.private else 'public'})")
    if public and done.private:
        app.console.note("the repository was private and stays private; change that in its settings on the hub")
    if as_json:
        app.console.print_json({"what": what, **asdict(done)})
