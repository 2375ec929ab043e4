"""The options that choose where thumbnails and titles are encoded, and the encoding before a command's own work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from thumbtune.cli import App
from trainer.settings import Engine

if TYPE_CHECKING:
    from store.db import Database
    from trainer.settings import TrainSettings

__all__ = ["encode_first", "engine_of", "engine_options"]

F = TypeVar("F", bound=Callable[..., Any])


def engine_options(command: F) -> F:
    """Add `--engine`, `--ray-address` and `--actors`, which the command receives under these names."""
    engine = click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where to encode thumbnails and titles: in this process, or on a Ray cluster (thumbtune[ray]).",
    )
    address = click.option(
        "--ray-address",
        metavar="ray://HOST:PORT",
        help="The cluster, with --engine ray.  [default: RAY_ADDRESS, else Ray on this machine]",
    )
    actors = click.option(
        "--actors",
        type=click.IntRange(1, 10_000),
        help="Workers that run the model, with --engine ray.  [default: by the cluster's GPUs or cores]",
    )
    return engine(address(actors(command)))


def engine_of(options: dict[str, Any]) -> Engine:
    """Take the engine's options out of a command's options.

    Raises:
        click.UsageError: an option of Ray was given without `--engine ray`.
    """
    name, address, actors = options.pop("engine"), options.pop("ray_address"), options.pop("actors")
    for option, value in (("--ray-address", address), ("--actors", actors)):
        if value is not None and name != "ray":
            raise click.UsageError(f"{option} has no effect without --engine ray.")
    return Engine(name, address, actors)


def encode_first(app: App, database: Database, engine: Engine, settings: Iterable[TrainSettings]) -> None:
    """With `--engine ray`, fill the cache of vectors, so that the command finds all of them there.

    Args:
        app: the command line's state.
        database: the store.
        engine: where the towers run.
        settings: the settings with which the command will encode pairs.
    """
    if engine.name == "local":
        return
    from trainer.runs import encode_pairs  # noqa: PLC0415 (loads torch)

    for each in settings:
        encode_pairs(database, each, engine, app.console)
