"""Match up to three thumbnails with up to fifty titles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from store.training import channel_titles
from store.youtube import VideoCard, video_cards
from thumbtune.ui.forms import MAX_TITLES, Sent, one_of, read_form, read_titles, video_id
from thumbtune.ui.site import SITE, Modelled, Site
from thumbtune.ui.views.trust import Trust, how_far_to_trust

__all__ = ["rank", "show"]

MAX_PICTURES = 3
_ALL = "all"
_LONGEST_LINK = 12_000
"""In bytes. With the rest of the request's first line, it must stay within the server's limit."""


def _probability(placed: dict[str, Any]) -> str:
    if placed["probability"] is None:
        return ""
    return f"{placed['probability']:.0%} ({placed['probability_low']:.0%} to {placed['probability_high']:.0%})"


CELL_COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("position", lambda placed: f"{placed['position']} of {placed['of']}" if placed["position"] else ""),
    ("probability", _probability),
)
"""Values shown in a matrix cell below the score: (name, function that formats a title's answer).

More values of `thumbnail_document` can be added here.
"""


@dataclass(frozen=True)
class _Picture:
    """A thumbnail to match: a video's thumbnail, or an uploaded picture."""

    key: str
    """`v:ID` or `u:NAME`."""
    source: str
    name: str
    content: bytes | None = None
    card: VideoCard | None = None


@dataclass(frozen=True)
class _Chosen:
    """What to match.

    Args:
        channel: with whose titles to compare: a channel's id, `all`, or empty for the channel of the videos.
        channels: {id: name} of the store's channels.
    """

    pictures: list[_Picture]
    titles: list[str]
    problems: list[str]
    channel: str
    channels: dict[str, str]

    @property
    def compared(self) -> str | None:
        """The id of the channel whose titles to compare with; None for all channels."""
        if self.channel:
            return None if self.channel == _ALL else self.channel
        own = {None if picture.card is None else picture.card.channel_id for picture in self.pictures}
        return own.pop() if len(own) == 1 else None


async def show(request: web.Request) -> web.Response:
    """GET /match: `v` for each video, `t` for each title, and `channel`."""
    site, query = request.app[SITE], request.query
    keys = [f"v:{video}" for text in query.getall("v", []) if (video := video_id(text)) is not None]
    keys += [f"u:{name}" for name in query.getall("u", [])]
    chosen = await _choose(site, keys, "\n".join(query.getall("t", [])), query.get("channel", ""), [])
    return await _answer(request, site, chosen)


async def rank(request: web.Request) -> web.Response:
    """POST /match: the form, with or without pictures."""
    site = request.app[SITE]
    sent = await read_form(request, site.uploads)
    problems = list(sent.problems)
    keys = _keys(sent, problems)
    chosen = await _choose(site, keys, sent.first("titles"), sent.first("channel"), problems)
    return await _answer(request, site, chosen)


def _keys(sent: Sent, problems: list[str]) -> list[str]:
    removed = set(sent.all("remove"))
    keys = [key for key in sent.all("picture") if key not in removed]
    for text in sent.all("video"):
        if not text.strip():
            continue
        video = video_id(text)
        if video is None:
            problems.append(f"{text[:60]!r} is neither a video's id nor its URL")
        else:
            keys.append(f"v:{video}")
    return keys + [f"u:{name}" for name in sent.uploads]


async def _choose(site: Site, keys: Sequence[str], text: str, channel: str, problems: list[str]) -> _Chosen:
    keys = list(dict.fromkeys(keys))
    if len(keys) > MAX_PICTURES:
        problems.append(f"only {MAX_PICTURES} thumbnails can be matched at a time; the first ones are used")
    titles, left_out = read_titles(text)
    if left_out:
        problems.append(f"only {MAX_TITLES} titles can be matched at a time; {left_out} were left out")
    ids = [key[2:] for key in keys if key.startswith("v:") and video_id(key[2:]) == key[2:]]
    cards, known = await site.store.read(lambda session: (video_cards(session, ids), channel_titles(session)))
    channels = {name: handle or title for name, (handle, title) in known.items()}
    pictures: list[_Picture] = []
    for key in keys[:MAX_PICTURES]:
        card, upload = cards.get(key[2:]), site.uploads.get(key[2:])
        if key.startswith("v:") and card is not None and card.picture_sha256 is not None:
            pictures.append(_Picture(key, f"/picture/{card.picture_sha256}", card.title, card=card))
        elif key.startswith("v:"):
            problems.append(f"the store has no thumbnail of video {key[2:40]}")
        elif upload is not None:
            pictures.append(_Picture(key, f"/upload/{key[2:]}", "your picture", upload.content))
        else:
            problems.append("an uploaded picture is no longer in memory; choose it again")
    return _Chosen(pictures, titles, problems, one_of(channel, (_ALL, *channels)) or "", channels)


async def _answer(request: web.Request, site: Site, chosen: _Chosen) -> web.Response:
    modelled = Modelled()
    trust: Trust | None = None
    if chosen.pictures and chosen.titles:
        blobs = [picture.content for picture in chosen.pictures if picture.content is not None]
        question = {
            "ask": "match",
            "titles": chosen.titles,
            "pictures": _named(chosen.pictures),
            "channels": [] if chosen.compared is None else [chosen.compared],
        }
        modelled = await site.ask(question, blobs)
        link = _link(chosen, with_uploads=True)
        if modelled.progress is not None and request.method == "POST" and link is not None:
            # Only a GET request can be reloaded.
            raise web.HTTPSeeOther(link)
    if modelled.answer is not None:
        answer = modelled.answer
        trust = await site.store.read(lambda session: how_far_to_trust(session, answer))
    return site.page(
        request,
        "match.html",
        reload=modelled.progress is not None,
        active="match",
        chosen=chosen,
        titles_text="\n".join(chosen.titles),
        max_pictures=MAX_PICTURES,
        max_titles=MAX_TITLES,
        modelled=modelled,
        rows=[] if modelled.answer is None else _rows(modelled.answer["columns"]),
        columns=CELL_COLUMNS,
        link=_link(chosen),
        trust=trust,
    )


def _named(pictures: Sequence[_Picture]) -> list[dict[str, Any]]:
    """Describe the pictures for the model process; an upload is described by its index among the blobs."""
    named: list[dict[str, Any]] = []
    blob = 0
    for picture in pictures:
        if picture.content is None:
            named.append({"video": picture.key[2:]})
        else:
            named.append({"video": None, "blob": blob})
            blob += 1
    return named


def _rows(columns: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the matrix: one row per title, the best overall first, then the current titles."""
    by_title = [{placed["title"]: placed for placed in column["titles"]} for column in columns]
    highest = [max(placed["score"] for placed in (*column["titles"], *column["current"])) for column in columns]
    rows = []
    for title in by_title[0]:
        cells = [of_title[title] for of_title in by_title]
        rows.append(
            {
                "title": title,
                "current": False,
                "cells": [_cell(cell, columns[i], highest[i]) for i, cell in _at(cells)],
            }
        )
    rows.sort(key=lambda row: -sum(cell["placed"]["score"] for cell in row["cells"]))
    for i, column in _at(columns):
        for placed in column["current"]:
            cells = [_cell(placed, column, highest[j]) if j == i else None for j, _ in _at(columns)]
            rows.append({"title": placed["title"], "current": True, "cells": cells})
    return rows


def _cell(placed: dict[str, Any], column: dict[str, Any], highest: float) -> dict[str, Any]:
    rank = placed.get("rank")  # a current title has none
    tied = rank == 2 and [1, 2] in [list(ranks) for ranks in column["near_ties"]]
    return {"placed": placed, "best": rank == 1, "tied": tied, "highest": highest}


def _at(items: Sequence[Any]) -> list[tuple[int, Any]]:
    return list(enumerate(items))


def _link(chosen: _Chosen, *, with_uploads: bool = False) -> str | None:
    """Return a link to the page for sharing; None if it needs an upload or would be too long.

    Args:
        chosen: the thumbnails and titles.
        with_uploads: include uploads too. They mean nothing to others, and are removed after a while.
    """
    is_whole = chosen.pictures and chosen.titles and (with_uploads or all(picture.card for picture in chosen.pictures))
    named = [picture.key.split(":", 1) for picture in chosen.pictures] + [["t", title] for title in chosen.titles]
    named += [["channel", chosen.channel]] if chosen.channel else []
    link = "/match?" + urlencode([(name, value) for name, value in named])
    return link if is_whole and len(link) <= _LONGEST_LINK else None
