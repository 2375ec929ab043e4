"""`thumbtune match`: rank titles by how well they fit a thumbnail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from store.wording import counted
from thumbtune.cli import App
from thumbtune.commands.options import (
    channel_option,
    device_option,
    json_option,
    model_in_words,
    model_option,
    untrained_model,
)
from thumbtune.console import Console
from thumbtune.early import check_names
from thumbtune.summary import trust_in

if TYPE_CHECKING:
    from trainer.library import Matched, Matches, Placed

__all__ = ["match", "report"]

STDIN = "-"
MOST_TIES = 5


@click.command()
@click.argument("image")
@click.argument("titles", metavar="[TITLE]...", nargs=-1)
@click.option(
    "--titles",
    "file",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help="Also read titles from this UTF-8 file, one on each line; - is standard input.",
)
@click.option("--image", "more", multiple=True, metavar="IMAGE", help="Another thumbnail for the titles (repeatable).")
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
    more: tuple[str, ...],
    model: str | None,
    channels: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Rank title ideas by how well they fit a thumbnail.

    IMAGE is a file, or the id or URL of a video in the store; put -- before an id that begins with a dash. Without a
    TITLE, or if a TITLE is -, titles are read from standard input, one on each line.

    The position "3 of 121" means that two of the titles of the 120 other pairs in the store fit the thumbnail better.
    The probability is how likely the title is to be the thumbnail's own among all these titles; "over folds" is its
    range over five models, each fitted without a fifth of the videos. The thumbnail's present titles are listed too,
    marked "current". With --image, the thumbnails and titles are shown as a matrix.
    """
    ideas = _ideas(titles, file)
    images = list(dict.fromkeys((image, *more)))
    with app.open_database() as database:
        from trainer.library import open_picture  # noqa: PLC0415

        pictures = [open_picture(database, name) for name in images]
        check_names(database, channels, model, untrained=untrained_model(app))
        from thumbtune.answers.documents import match_document  # noqa: PLC0415
        from thumbtune.answers.modelled import Answerer  # noqa: PLC0415 (loads torch)

        answerer = Answerer(database, model, device, app.console, untrained=untrained_model(app))
        found = answerer.match(pictures, ideas, channels)
        for title in answerer.used(channels).embedder.cut_titles(list(dict.fromkeys(ideas))):
            app.console.warn(f"the model truncates this title: {title}")
        trust = trust_in(database, found.run_id, model_in_words(found.model))
    report(app.console, found)
    app.console.note(trust)
    if as_json:
        app.console.print_json(match_document(found))


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
    return None if placed.position is None else f"{placed.position} of {compared + 1}"


def report(console: Console, found: Matches) -> None:
    """Print the table of one thumbnail, or the matrix of several, and how far the probabilities can be trusted."""
    if len(found.thumbnails) == 1:
        _report_one(console, found.thumbnails[0])
    else:
        _report_matrix(console, found.thumbnails)
    if found.calibration is not None:
        measured = found.calibration
        console.say(
            f"probabilities: calibrated on {counted(measured.n, 'held-out thumbnail')} in {len(measured.scales)} "
            f"folds; expected calibration error {measured.error:.3f}"
        )
    else:
        console.note(f"note: no probabilities, which would show which titles can be told apart: {found.uncalibrated}")
    if not found.thumbnails[0].compared:
        console.note(
            "note: the store has no other pair to compare titles with; run 'thumbtune sync', or leave out --channel"
        )


def _report_one(console: Console, found: Matched) -> None:
    lines: list[tuple[float, tuple[object, ...]]] = [
        (idea.score, _row(rank, idea, found.compared)) for rank, idea in enumerate(found.ideas, start=1)
    ]
    lines += [(now.score, _row("current", now, found.compared)) for now in found.current]
    # Stable: at equal scores an idea comes before a current title.
    rows = [cells for _, cells in sorted(lines, key=lambda at: -at[0])]
    columns = ("rank", "score", "position", "probability", "over folds", "title")
    kept = [at for at, name in enumerate(columns) if any(row[at] is not None for row in rows) or name == "position"]
    console.table([columns[at] for at in kept], [[row[at] for at in kept] for row in rows])
    if found.words is not None:
        console.say(f"words on the thumbnail: {found.words or '(none)'}")
    ties = found.near_ties()
    if ties:
        ranges = found.ideas[0].probability is not None
        why = "their probabilities over folds overlap" if ranges else "their scores are equal"
        console.say(f"can't be told apart: {_pairs(ties)} ({why})")


def _row(rank: object, title: Placed, compared: int) -> tuple[object, ...]:
    chance = title.probability
    shown = (None, None) if chance is None else (f"{chance.value:.3f}", f"{chance.low:.3f} to {chance.high:.3f}")
    return (rank, f"{title.score:.3f}", _position(title, compared), *shown, title.title)


def _pairs(ties: list[tuple[int, int]]) -> str:
    shown = ", ".join(f"{one} and {other}" for one, other in ties[:MOST_TIES])
    return shown if len(ties) <= MOST_TIES else f"{shown} and {len(ties) - MOST_TIES} more"


def _report_matrix(console: Console, thumbnails: list[Matched]) -> None:
    """Print a row for each title, a column for each thumbnail: the probability, or else the score, and the rank."""
    ranked = [{idea.title: (rank, idea) for rank, idea in enumerate(found.ideas, start=1)} for found in thumbnails]
    rows = [[idea.title, *(_cell(*of[idea.title]) for of in ranked)] for idea in thumbnails[0].ideas]
    names = [f"{number}: {found.name}" for number, found in enumerate(thumbnails, start=1)]
    console.table(("title", *names), rows)
    for number, found in enumerate(thumbnails, start=1):
        if found.words is not None:
            console.say(f"words on thumbnail {number}: {found.words or '(none)'}")
        if found.near_ties():
            console.say(f"can't be told apart for thumbnail {number}: ranks {_pairs(found.near_ties())}")


def _cell(rank: int, idea: Placed) -> str:
    shown = f"{idea.score:.3f}" if idea.probability is None else f"{idea.probability.value:.3f}"
    return f"{shown} (#{rank})"
