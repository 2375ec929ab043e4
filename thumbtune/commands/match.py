"""`thumbtune match`: rank titles by how well they fit a thumbnail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from thumbtune.cli import App
from thumbtune.commands.options import channel_option, device_option, json_option, model_option
from thumbtune.console import Console

if TYPE_CHECKING:
    from trainer.library import Matched, Placed

__all__ = ["match"]

STDIN = "-"


@click.command()
@click.argument("image")
@click.argument("titles", metavar="[TITLE]...", nargs=-1)
@click.option(
    "--titles",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Read titles from this file too, one a line, UTF-8; - is standard input.",
)
@model_option()
@channel_option()
@device_option()
@json_option
@click.pass_obj
def match(
    app: App,
    /,
    image: str,
    titles: tuple[str, ...],
    file: Path | None,
    model: str | None,
    channels: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Rank title ideas by how well they fit a thumbnail.

    IMAGE is a file, or the id of a video in the store; put -- before an id that begins with a dash. Without a TITLE,
    or for a TITLE that is -, titles are read from standard input, one a line. "3 of 121" means: among the titles of
    the store's 120 other pairs, two fit the thumbnail better. The titles that the thumbnail has now are shown for
    reference, marked `current`.
    """
    ideas = _ideas(titles, file)
    with app.open_database() as database:
        from thumbtune.answers.modelled import Answerer, match_document  # noqa: PLC0415 (loads torch)
        from trainer.library import open_picture  # noqa: PLC0415

        picture = open_picture(database, image)
        answerer = Answerer(database, model, device, app.console)
        found = answerer.match(picture, ideas, channels)
    _report(app.console, found)
    if as_json:
        app.console.print_json(match_document(found, answerer.used, image))


def _ideas(titles: tuple[str, ...], file: Path | None) -> list[str]:
    """Return all titles in the order given.

    Raises:
        click.UsageError: no title is given, or a file can't be read.
    """
    ideas = [title for title in titles if title != STDIN]
    sources = [] if file is None else [str(file)]
    piped = sys.stdin is not None and not sys.stdin.isatty()
    if STDIN in titles or (not titles and file is None and piped):
        sources.append(STDIN)
    for name in dict.fromkeys(sources):
        ideas += _read(name)
    if not any(title.strip() for title in ideas):
        where = " (standard input has none)" if STDIN in sources else f" ({file} has none)" if file else ""
        raise click.UsageError(f"there is no title to match{where}; give one or more after IMAGE, or --titles FILE.")
    return ideas


def _read(name: str) -> list[str]:
    from trainer.library import titles_in  # noqa: PLC0415

    if name == STDIN:
        return titles_in(b"" if sys.stdin is None else sys.stdin.buffer.read(), "standard input")
    try:
        content = Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--titles {name} can't be read ({error.strerror}); check the file.") from error
    return titles_in(content, name)


def _position(placed: Placed, compared: int) -> str | None:
    return None if placed.stands is None else f"{placed.stands} of {compared + 1}"


def _report(console: Console, found: Matched) -> None:
    lines: list[tuple[float, tuple[object, ...]]] = [
        (idea.score, (rank, f"{idea.score:.3f}", _position(idea, found.compared), idea.title))
        for rank, idea in enumerate(found.ideas, start=1)
    ]
    lines += [
        (now.score, ("current", f"{now.score:.3f}", _position(now, found.compared), now.title)) for now in found.current
    ]
    # Stable: at equal scores an idea comes before a current title.
    console.table(("rank", "score", "position", "title"), [cells for _, cells in sorted(lines, key=lambda at: -at[0])])
    if not found.compared:
        console.note(
            "note: the store has no other pair to compare titles with; run 'thumbtune sync', or leave out --channel"
        )
