"""`thumbtune search`: find thumbnails by text, or by another picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from store.video_links import video_url
from store.wording import counted
from thumbtune.cli import App
from thumbtune.commands.engine import encode_first, engine_of, engine_options
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
from thumbtune.scopes import channel_names
from thumbtune.summary import trust_in

if TYPE_CHECKING:
    from store.db import Database
    from trainer.library import Found, Library, QueryPicture
    from trainer.runs import InUse

__all__ = ["search"]


@click.command()
@click.argument("text", required=False)
@click.option(
    "--like", metavar="IMAGE", help="Search by an image instead: a file, or the id or URL of a video in the store."
)
@click.option("--words", metavar="TEXT", help="Search for thumbnails on which all of these words were read.")
@click.option("-k", "k", type=click.IntRange(min=1), default=10, show_default=True, help="Number of results.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.png", help="Also draw the results as a contact sheet."
)
@model_option()
@channel_option()
@device_option()
@engine_options
@json_option
@click.pass_obj
def search(
    app: App,
    /,
    text: str | None,
    like: str | None,
    words: str | None,
    k: int,
    out: Path | None,
    model: str | None,
    channels: tuple[str, ...],
    device: str,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the thumbnails that show TEXT, look like IMAGE, or have certain words on them.

    All current pairs in the store are searched. Scores are cosine similarities, which can't be compared between
    searches. A video that is given with --like is not among its own results. --words needs no model: it searches the
    words that 'thumbtune train --with-reader' has read on thumbnails, newest videos first.
    """
    engine = engine_of(options)
    if sum(given is not None for given in (text, like, words)) != 1:
        raise click.UsageError("give one of TEXT, --like IMAGE and --words TEXT.")
    if words is not None:
        _search_words(app, words, k, channels, as_json=as_json)
        return
    if text is not None and not text.strip():
        raise click.UsageError("the TEXT to search for is empty.")
    with app.open_database() as database:
        from trainer.library import open_picture  # noqa: PLC0415

        picture = None if like is None else open_picture(database, like)
        if out is not None:
            from trainer.publish import check_sheet_path  # noqa: PLC0415 (Pillow)

            check_sheet_path(out)
        check_names(database, channels, model, untrained=untrained_model(app))
        from thumbtune.answers.documents import search_document  # noqa: PLC0415
        from thumbtune.answers.modelled import Answerer  # noqa: PLC0415 (loads torch)

        if engine.name == "ray":
            from trainer.runs import settings_to_use  # noqa: PLC0415

            of_model = settings_to_use(database, model, device, channels, untrained_model(app))
            encode_first(app, database, engine, of_model)
        answerer = Answerer(database, model, device, app.console, untrained=untrained_model(app))
        answer = answerer.search(str(text) if picture is None else picture, k, channels)
        found, library, used = answer.found, answer.library, answer.used
        drawn = None if out is None else _draw(app.console, database, found, text, picture, used, out)
        trust = trust_in(database, used.run_id, model_in_words(used.name))
        with database.read() as session:
            names = channel_names(session)
    _report(app.console, found, library, names, drawn)
    app.console.note(trust)
    if as_json:
        document = search_document(answer, text, like)
        app.console.print_json({**document, "contact_sheet": None if drawn is None else str(drawn)})


def _search_words(app: App, words: str, k: int, channels: tuple[str, ...], *, as_json: bool) -> None:
    from store.training import thumbnails_with_words  # noqa: PLC0415

    if not words.split():
        raise click.UsageError("the TEXT to search for is empty.")
    with app.open_database() as database:
        from trainer.library import resolve_channels  # noqa: PLC0415

        channel_ids = resolve_channels(database, channels)
        with database.read() as session:
            found = thumbnails_with_words(session, words, channel_ids)
    shown = found.matching[:k]
    rows = [(video.video_id, video.text, video.title, video_url(video.video_id)) for video in shown]
    if rows:
        app.console.table(("id", "words on the thumbnail", "title", "url"), rows)
    else:
        app.console.say("no thumbnail has these words")
    if found.unread:
        app.console.note(
            f"note: {found.unread} of {counted(found.searched, 'thumbnail')} not read yet; "
            "'thumbtune train --with-reader' reads all"
        )
    if as_json:
        results = [{**asdict(video), "url": video_url(video.video_id)} for video in shown]
        counts = {"searched": found.searched, "unread": found.unread, "found": len(found.matching)}
        app.console.print_json({"words": words, **counts, "results": results})


def _draw(
    console: Console,
    database: Database,
    found: list[Found],
    text: str | None,
    picture: QueryPicture | None,
    used: InUse,
    out: Path,
) -> Path | None:
    from trainer.data import StoredPictures  # noqa: PLC0415
    from trainer.publish import MAX_TILES, Tile, draw_sheet, write_sheet  # noqa: PLC0415

    if not found:
        console.note(f"note: nothing was found, so {out} was not written")
        return None
    if len(found) > MAX_TILES:
        console.note(f"note: the contact sheet shows the first {MAX_TILES} of {len(found)}")
    tiles = [
        Tile(answer.pair.picture_sha256, answer.pair.video_id, rank, answer.score, answer.pair.title)
        for rank, answer in enumerate(found[:MAX_TILES], start=1)
    ]
    asked = f"“{text}”" if picture is None else f"like {picture.title or Path(picture.name).name}"
    # A sheet is meant to be shared: it shows only the last part of a path.
    by = used.name if used.run_id is not None else Path(used.name).name
    sheet = draw_sheet(
        f"{asked} · {by}",
        tiles,
        StoredPictures(database),
        query=None if picture is None else picture.image,
    )
    write_sheet(sheet, out)
    return out


def _report(
    console: Console, found: list[Found], library: Library, names: Mapping[str, str], drawn: Path | None
) -> None:
    if library.left_out:
        n = len(library.left_out)
        console.note(
            f"note: {counted(n, 'video')} left out because the thumbnail can't be decoded (first: "
            f"{library.left_out[0].video_id}); run 'thumbtune db check', with --repair to fetch it again"
        )
    from trainer.library import equal_scores  # noqa: PLC0415

    several = len({pair.channel_id for pair in library.pairs}) > 1
    # A terminal has no room for both, and commands accept a URL instead of an id.
    with_id = not console.on_terminal or any(video_url(answer.pair.video_id) is None for answer in found)
    with_url = any(video_url(answer.pair.video_id) for answer in found) or not console.on_terminal
    columns = [
        "rank",
        *(["id"] if with_id else []),
        *(["channel"] if several else []),
        "score",
        "title",
        *(["url"] if with_url else []),
    ]
    rows = [
        [
            rank,
            *([answer.pair.video_id] if with_id else []),
            *([names.get(answer.pair.channel_id, answer.pair.channel_id)] if several else []),
            f"{answer.score:.3f}",
            answer.pair.title,
            *([video_url(answer.pair.video_id)] if with_url else []),
        ]
        for rank, answer in enumerate(found, start=1)
    ]
    if rows:
        console.table(columns, rows)
        for first, last in equal_scores(found):
            console.note(f"note: ranks {first} to {last} have equal scores, so their order has no meaning")
    else:
        console.say("the store has no other thumbnail")
    if drawn is not None:
        console.say(f"contact sheet: {drawn}")
