"""The options that several commands share, each declared once, and the old spellings that still work until 1.0."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any, TypeVar

import click

from store.wording import counted
from thumbtune.cli import App
from trainer.settings import DEFAULT_MODEL, DEVICES

__all__ = [
    "DatasetOrModel",
    "OldArgument",
    "channel_option",
    "device_option",
    "full_option",
    "json_option",
    "looks",
    "model_in_words",
    "model_option",
    "note_old_spelling",
    "old_model",
    "resolved_model",
    "run_option",
    "untrained_model",
]

F = TypeVar("F", bound=Callable[..., Any])

DEMO_MODEL = Path(__file__).parents[1] / "demo" / "encoder"
"""The folder of the model that every command takes by the name `demo`."""

_OLD_MODEL = "thumbtune.old_model"
"""The key, in a context's `meta`, of the model that an old spelling named."""


def _app(ctx: click.Context) -> App:
    app = ctx.find_object(App)
    assert app is not None
    return app


def note_old_spelling(ctx: click.Context, old: str, new: str) -> None:
    """Write the new spelling to stderr."""
    _app(ctx).console.note(f"note: '{old}' is now '{new}'; the old spelling works until 1.0")


def _want_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    """Note whether JSON is wanted: with `runs --json show 1`, by the group, for its command."""
    console = _app(ctx).console
    console.json_wanted = console.json_wanted or value
    return console.json_wanted


json_option = click.option(
    "--json", "as_json", is_flag=True, callback=_want_json, help="Print one JSON document to stdout."
)


full_option = click.option("--full", is_flag=True, help="Show all figures, not only the summary.")


def looks(n: int) -> str:
    """Describe how often the test split was scored. With each look, its metrics say less about future videos."""
    return f"test looked at {counted(n, 'time')}"


def _channel_names(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the URLs of channels by their ids or handles."""
    if not any("/" in value for value in values):
        return values
    from collector.youtube import parse_channel_name  # noqa: PLC0415 (aiohttp is slow to import)

    return tuple(parse_channel_name(value).value if "/" in value else value for value in values)


def channel_option(
    default: str = "all channels", meaning: str = "Use only the pairs of this channel"
) -> Callable[[F], F]:
    """Add `--channel`, which restricts a command to some channels.

    Args:
        default: the description of the default, for the help.
        meaning: the description of the option, for the help.
    """
    return click.option(
        "--channel",
        "channels",
        multiple=True,
        metavar="ID|@HANDLE",
        callback=_channel_names,
        help=f"{meaning} (repeatable).  [default: {default}]",
    )


def device_option(default: str | None = "auto") -> Callable[[F], F]:
    """Add `--device`."""
    return click.option(
        "--device",
        type=click.Choice(DEVICES),
        default=default,
        show_default=default is not None,
        help="Where to compute.",
    )


def run_option(help_text: str) -> Callable[[F], F]:
    """Add `--run`, a run's number, as `run_id`."""
    return click.option("--run", "run_id", type=int, metavar="N", help=help_text)


def model_option(default: str = "the champion") -> Callable[[F], F]:
    """Add `--model`, and `--run` as its old name.

    Args:
        default: the description of the default, for the help.
    """
    described = click.option(
        "--model",
        metavar="RUN|NAME|DIR",
        callback=_named_model,
        help=f"The model: N for run N's model, N:base for its base model, a Hugging Face Hub name, a folder, or demo "
        f"for the small one that ships with thumbtune.  [default: {default}]",
    )
    old = click.option("--run", "old_run", hidden=True, expose_value=False, callback=old_model("--run"))
    return lambda command: described(old(command))


def old_model(old: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    """Return a callback for a parameter that named the model before `--model` did."""

    def keep(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is None or ctx.resilient_parsing:
            return
        if ctx.params.get("model") is not None or _OLD_MODEL in ctx.meta:
            raise click.UsageError(f"{old} is the old spelling of --model; give --model once.", ctx)
        note_old_spelling(ctx, old, "--model")
        ctx.meta[_OLD_MODEL] = value

    return keep


def _named_model(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
    """Return the model, which an old spelling may have named. Click processes omitted options last."""
    old: str | None = ctx.meta.get(_OLD_MODEL)
    if value is not None and old is not None:
        raise click.UsageError("the model is named twice; give --model once.", ctx)
    return resolved_model(old if value is None else value)


def resolved_model(name: str | None) -> str | None:
    """Return the folder of the small model that ships with thumbtune for `demo`; return any other name unchanged."""
    return str(DEMO_MODEL) if name == "demo" else name


def untrained_model(app: App) -> str:
    """Return the base model before any training: that of thumbtune.toml, or else the default of `train`."""
    return resolved_model(app.config.values.get("model")) or DEFAULT_MODEL


def model_in_words(name: str) -> str:
    """Return a model's name for a table: `demo`, a hub name without its owner, or the last part of a folder's path."""
    return "demo" if name == str(DEMO_MODEL) else PurePath(name).name or name


class OldArgument(click.Argument):
    """An argument that still works, but is not shown in the help."""

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return nothing."""
        return []


class DatasetOrModel(click.Group):
    """A group with the commands `dataset` and `model`, each of which takes one argument.

    The old spelling also works: the argument without a command, with the option `--dataset` or `--model`.

    Args:
        unnamed: the meaning of the old spelling without such an option, if that was allowed.
    """

    def __init__(self, *args: Any, unnamed: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unnamed = unnamed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite the old spelling, with a note."""
        kind = self._kind_in_old_spelling(args)
        if kind is not None:
            flag = f"--{kind}"
            old = [self.name, *([flag] if flag in args else []), "..."]
            note_old_spelling(ctx, " ".join(map(str, old)), f"{self.name} {kind} ...")
            args = [kind, *(argument for argument in args if argument != flag)]
        return super().parse_args(ctx, args)

    def _kind_in_old_spelling(self, args: list[str]) -> str | None:
        words = self._words(args)
        if len(words) != 1 or not {"-h", "--help"}.isdisjoint(args):
            return None
        flagged = [kind for kind in self.commands if f"--{kind}" in args]
        if flagged:
            return flagged[0] if len(flagged) == 1 else None
        # `model` alone is the command without its argument, not a dataset in a folder of that name.
        return None if words == ["model"] else self._unnamed

    def _words(self, args: list[str]) -> list[str]:
        """Return the arguments that are neither options nor values of options."""
        parameters = [parameter for command in self.commands.values() for parameter in command.params]
        with_value = {
            name
            for parameter in parameters
            if isinstance(parameter, click.Option) and not parameter.is_flag
            for name in parameter.opts
        }
        words: list[str] = []
        rest = iter(args)
        for argument in rest:
            if argument == "--":
                words += rest
            elif argument in with_value:
                next(rest, None)
            elif not argument.startswith("-"):
                words.append(argument)
        return words
