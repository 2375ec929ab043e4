"""The `thumbtune` command: global options, lazily loaded commands, and the mapping of errors to exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 stopped early with everything so far kept.
"""

from __future__ import annotations

import errno
import io
import os
import re
import select
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from store.errors import panics_as_errors
from store.urls import shown_file, shown_message
from thumbtune import __version__, interrupts
from thumbtune.config import Config, read_config
from thumbtune.console import Console
from thumbtune.interrupts import INTERRUPTED, STOPPED_EARLY
from thumbtune.log_format import LogFormat, configure_logging

if TYPE_CHECKING:
    from store.db import Database

__all__ = ["App", "cli", "main"]

TRAINING_STACK = frozenset(
    {
        "accelerate",
        "datasets",
        "faiss",
        "google",
        "huggingface_hub",
        "lazy_loader",
        "matplotlib",
        "numpy",
        "optuna",
        "pandas",
        "peft",
        "pyarrow",
        "safetensors",
        "scipy",
        "sentence_transformers",
        "sentencepiece",
        "threadpoolctl",
        "torch",
        "transformers",
    }
)

# name -> location of its click command. A module is imported only when its command runs or its help is shown.
COMMANDS = {
    "channels": ("thumbtune.commands.channels:channels", "List, add, pause and remove channels."),
    "config": ("thumbtune.commands.config:config", "Show the settings in effect, and where each is set."),
    "db": ("thumbtune.commands.db:db", "Upgrade, check, copy, back up and restore the store."),
    "demo": ("thumbtune.commands.demo:demo", "Run the main commands on a stand-in channel: no key, no network."),
    "encode": ("thumbtune.commands.encode:encode", "Encode thumbnails and titles ahead, here or on a Ray cluster."),
    "evaluate": ("thumbtune.commands.evaluate:evaluate", "Measure how often a model picks the right title."),
    "export": ("thumbtune.commands.export:export", "Write the dataset, or a run's model, to a new folder."),
    "import": ("thumbtune.commands.import_:import_", "Import thumbnails and titles from files; no API key is needed."),
    "match": ("thumbtune.commands.match:match", "Rank title ideas by how well they fit a thumbnail."),
    "push": ("thumbtune.commands.push:push", "Push a model or the dataset to the Hugging Face Hub."),
    "retrain": ("thumbtune.commands.retrain:retrain", "Sync, train if enough is new, and use the better model."),
    "runs": ("thumbtune.commands.runs:runs", "List, show and compare training runs; choose the champion."),
    "search": ("thumbtune.commands.search:search", "Find thumbnails by text, or by another image."),
    "sql": ("thumbtune.commands.sql:sql", "Run a read-only SQL query on the store."),
    "sweep": ("thumbtune.commands.sweep:sweep", "Try many training settings, and train with the best."),
    "sync": ("thumbtune.commands.sync:sync", "Bring channels' videos and thumbnails up to date."),
    "train": ("thumbtune.commands.train:train", "Fine-tune a model on the store's pairs and record the run."),
    "ui": ("thumbtune.commands.ui:ui", "Serve a web page to search, match titles and compare runs."),
    "watch": ("thumbtune.commands.watch:watch", "Keep syncing on a schedule, with health and metrics endpoints."),
}


@dataclass
class App:
    """The values of the global options for a command; get it with `ctx.find_object(App)`."""

    db_url: str
    debug: bool = False
    config: Config = field(default_factory=Config)
    log_format: LogFormat = "text"
    console: Console = field(default_factory=Console)

    def open_database(self, *, create: bool = False, read_only: bool = False, any_revision: bool = False) -> Database:
        """Open the store; the caller closes it.

        Raises:
            StoreError: see `store.db.open_database`.
            BadPicturesUrl: THUMBTUNE_PICTURES does not name where the thumbnails are. Not with `any_revision`.
        """
        from store.db import expect_pictures, open_database  # noqa: PLC0415 (SQLAlchemy is slow to import)

        database = open_database(self.db_url, create=create, read_only=read_only, any_revision=any_revision)
        if any_revision:
            return database
        try:
            return expect_pictures(database, self.config.values.get("pictures", ""), read_only=read_only)
        except BaseException:
            database.close()
            raise


@contextmanager
def _closed_pipes() -> Iterator[None]:
    """End the command with 0 if the reader of stdout has gone, as after `| head`: that is not an error."""
    try:
        yield
    except BrokenPipeError:
        if _reader_is_gone():
            raise click.exceptions.Exit(0) from None
        raise


class LazyGroup(click.Group):
    """A group that imports its commands on use, so that `--help` is fast."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Accept `--db STORE` after the command too, because users write it there. It also prints `--help`."""
        with _closed_pipes():
            return super().parse_args(ctx, _db_first(args))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _closed_pipes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest a similar name; click itself only knows the commands already imported.

        Raises:
            click.UsageError: the command does not exist.
        """
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], COMMANDS, n=1)
            if near:
                raise click.UsageError(f"{error.message} Did you mean {near[0]!r}?", ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from `COMMANDS` without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in sorted(COMMANDS.items())])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--db",
    "db_url",
    metavar="STORE",
    envvar="THUMBTUNE_DB",
    show_envvar=True,
    help="The store: a file such as mystore.db, a folder, sqlite:///FILE or postgresql://USER@HOST/NAME. It may also "
    "follow the command.  [default: thumbtune.db]",
)
@click.option("--debug", is_flag=True, help="Show a traceback when something fails, and debug logs.")
@click.option("-q", "--quiet", is_flag=True, help="Show results and errors only.")
@click.option("-v", "--verbose", count=True, help="Show logs too; -vv shows more.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of log lines; json: one object per line.",
)
@click.version_option(__version__, prog_name="thumbtune")
@click.pass_context
def cli(ctx: click.Context, db_url: str | None, debug: bool, quiet: bool, verbose: int, log_format: LogFormat) -> None:
    """Learn which title belongs to which thumbnail.

    thumbtune keeps a YouTube channel's thumbnails and titles in one database, fine-tunes a CLIP-style model on them,
    and records every run.
    """
    if quiet and verbose:
        raise click.UsageError("-q and -v exclude each other; give one of them.")
    console = Console(verbosity=-1 if quiet else verbose)
    config = read_config(db_url, os.environ, Path())
    ctx.obj = App(config.store, debug=debug, config=config, log_format=log_format, console=console)
    ctx.default_map = config.defaults()
    configure_logging(2 if debug else verbose, log_format)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; without `--debug`, never print a traceback.

    Args:
        arguments: the command's. None: those of the process, which then ends although its threads still run.
    """
    owns_process = arguments is None
    arguments = sys.argv[1:] if arguments is None else arguments
    _open_closed_streams()
    code = None
    try:
        interrupts.install()
        _escape_unencodable_output()
        code = _run(arguments, debug="--debug" in arguments)
        interrupts.exit_at_once(code)
    except KeyboardInterrupt:  # just before or after the work
        if code is None:
            Console().error(INTERRUPTED)
            code = STOPPED_EARLY
    _reader_is_gone()
    # An interrupt inside of another `exec` of a text makes `python -m` end with 130, although it was handled.
    exec("")  # noqa: S102
    if owns_process:
        interrupts.exit_within(interrupts.THREADS_S, code)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open the null device for streams that are closed, as after `>&-`.

    Otherwise the next file, such as the store, would get the number of stdout or stderr, to which libraries write.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def _escape_unencodable_output() -> None:
    """Escape what stdout's encoding can't represent, as Python does on stderr, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(arguments: list[str], *, debug: bool) -> int:
    console = Console()
    try:
        with panics_as_errors():
            result: Any = cli.main(args=arguments, prog_name="thumbtune", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where an error is reported like any other
    except click.exceptions.Abort:
        console.error(INTERRUPTED)
        return STOPPED_EARLY
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            print(error.ctx.get_usage(), file=sys.stderr)
        console.error(_usage_message(error))
        return error.exit_code
    except KeyboardInterrupt:
        console.error(INTERRUPTED)
        return STOPPED_EARLY
    except Exception as error:
        if debug:
            print(_traceback(arguments), file=sys.stderr, end="")
            return 1
        message, code = _message_and_code(error, arguments)
        _drop_output()
        console.error(message)
        return code
    return result if isinstance(result, int) else 0


def _traceback(arguments: list[str]) -> str:
    """The traceback of the current exception, without passwords of the URLs in the arguments and the environment."""
    text = traceback.format_exc()
    for name, value in os.environ.items():
        if name.endswith("_FILE") and value:
            text = text.replace(value, shown_file(value))
    for word in (*arguments, *os.environ.values()):
        url = re.search(r"[A-Za-z][A-Za-z0-9+.-]*://.*", word, re.DOTALL)
        text = shown_message(text, url[0]) if url else text
    return text


def _reader_is_gone() -> bool:
    """Whether the reader of stdout has gone, as after `| head`; then the buffered output is dropped."""
    try:
        number = sys.stdout.fileno()
        watched = select.poll()
        watched.register(number, 0)  # errors are always reported
        gone = any(happened & select.POLLERR for _, happened in watched.poll(0))
    except (AttributeError, OSError, ValueError):  # stdout is missing or replaced by a test, or this is Windows
        return False
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return gone


def _drop_output() -> None:
    """Write what stdout can take, and drop the rest, which Python would otherwise try to write again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (AttributeError, ValueError):  # stdout is missing or closed
        return


def _db_first(arguments: list[str]) -> list[str]:
    """Move `--db STORE` or `--db=STORE` to the front, unless it follows a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    first, rest = [], []
    words = iter(arguments[:end])
    for word in words:
        if word == "--db":
            value = next(words, None)
            if value is None:
                raise click.UsageError("--db needs a store, such as --db mystore.db.")
            first += [word, value]
        elif word.startswith("--db="):
            first.append(word)
        else:
            rest.append(word)
    return [*first, *rest, *arguments[end:]]


def _usage_message(error: click.ClickException) -> str:
    """Return click's message; if it is about a global option after the command, say where the option belongs."""
    of_all = {name for option in cli.params for name in option.opts}
    if isinstance(error, click.NoSuchOption) and error.option_name in of_all:
        return f"{error.message} This is a global option; put it before the command."
    return error.format_message()


def _is_text(argument: str) -> bool:
    """Whether an argument was UTF-8: Python decodes other bytes to lone surrogates (PEP 383)."""
    return not any("\udc80" <= char <= "\udcff" for char in argument)


_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full; make room",
    errno.EDQUOT: "the quota is used up; make room",
    errno.EFBIG: "the file is larger than the system allows; raise the limit (ulimit -f)",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.EIO: "the disk failed; check it",
}


def _disk_error(error: BaseException | None) -> OSError | None:
    """The disk's error among an error and its causes: libraries report it as an error of their own."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def _folder_is_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 (Path.cwd may be cached)
    except FileNotFoundError:
        return True
    return False


def _message_and_code(error: Exception, arguments: list[str]) -> tuple[str, int]:
    """Return a one-line message and the exit code: our own errors carry both; others are bugs or missing extras."""
    code = getattr(error, "exit_code", None)
    if interrupts.was_received() and code != STOPPED_EARLY and not getattr(error, "despite_signal", False):
        # A library, or what closes files, reported the signal's exception as an error of its own.
        return INTERRUPTED, STOPPED_EARLY
    if code is not None:
        return str(error), int(code)
    full = _disk_error(error)
    if full is not None:
        where = full.filename or "the output, or a temporary file,"
        return f"{where} can't be written: {_DISK_ERRORS[full.errno or 0]}; run the command again after that", 1
    if isinstance(error, FileNotFoundError) and _folder_is_gone():
        return "the working folder no longer exists; change to another folder", 1
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"the file name {str(error.filename)[:60]}... is too long; give a shorter one", 1
    if isinstance(error, UnicodeEncodeError):
        # File names may be any bytes, but text for a database or a model must be valid Unicode.
        for argument in arguments:
            if not _is_text(argument):
                return f"{argument[:60]!a} is not UTF-8 text; use a UTF-8 terminal", 2
    if isinstance(error, ModuleNotFoundError) and error.name == "prometheus_client":
        return "prometheus-client is not installed; run pip install 'thumbtune[service]'", 1
    if isinstance(error, ModuleNotFoundError) and error.name in TRAINING_STACK:
        return f"{error.name} is not installed; run pip install 'thumbtune[train]'", 1
    return f"{type(error).__name__}: {error}; this is a bug, run again with --debug and report it", 1
