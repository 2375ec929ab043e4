"""`thumbtune config`: the settings in effect, and where each is set."""

from __future__ import annotations

import os
from typing import Any

import click

from store.urls import shown_file, shown_url
from thumbtune.cli import App
from thumbtune.commands.options import json_option
from thumbtune.config import CONFIG_FILE, KEYS

__all__ = ["config"]

_SECRETS = ("YOUTUBE_API_KEY", "HF_TOKEN")
_VARIABLES = (
    *("YOUTUBE_API_KEY", "YOUTUBE_API_KEY_FILE", "YOUTUBE_API_KEYS_FILE"),
    *("THUMBTUNE_MODELS", "HF_HOME", "HF_TOKEN"),
)


@click.command()
@json_option
@click.pass_obj
def config(app: App, as_json: bool) -> None:
    """Show the settings in effect, and where each is set.

    Settings are read from thumbtune.toml in the working folder and beside the store; options and environment variables
    take precedence. Keys: store, channels, model, thumbnail, min_duration, listen, pictures. docs/settings.md describes
    them.
    """
    known = app.config
    rows: list[tuple[str, Any, str]] = [("store", shown_url(known.store), known.sources["store"])]
    for key in KEYS:
        if key != "store":
            value = known.values.get(key)
            shown = ", ".join(value) if isinstance(value, list) else value
            if key == "pictures" and value is not None:
                shown = shown_url(value)
            rows.append((key, shown, known.sources.get(key, "default")))
    given = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
    visible = {name: shown_file(value) if name.endswith("_FILE") else value for name, value in given.items()}
    rows += [(name, "(set)" if name in _SECRETS else value, "environment") for name, value in visible.items()]
    app.console.table(("setting", "value", "from"), rows)
    app.console.note(f"settings are read from {CONFIG_FILE} in this folder and beside the store")
    if as_json:
        app.console.print_json({name: {"value": value, "from": source} for name, value, source in rows})
