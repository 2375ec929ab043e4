"""The library: all thumbnails newest first, in pages, or those that best fit a text or a picture."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from aiohttp import web
from multidict import MultiDict, MultiMapping
from sqlalchemy.orm import Session

from store.training import channel_titles
from store.youtube import LibraryFilter, Place, VideoCard, filtered_ids, library_page, video_cards
from thumbtune.ui.forms import day, one_of, read_form, video_id, whole
from thumbtune.ui.site import SITE, Modelled, Site
from thumbtune.ui.views.trust import how_far_to_trust

__all__ = ["show", "upload"]

PAGE = 48
MOST_FOUND = 480
KINDS = ("video", "short", "upcoming", "live", "unknown")
SPLITS = ("train", "valid", "test", "none")


@dataclass(frozen=True)
class _Asked:
    """A visitor's query; at most one of `text`, `like` and `upload` is set."""

    text: str | None
    like: str | None
    upload: str | None
    library_filter: LibraryFilter
    k: int
    after: Place | None

    @property
    def is_search(self) -> bool:
        return any((self.text, self.like, self.upload))


def _asked(query: MultiMapping[str]) -> _Asked:
    text = query.get("q", "").strip()[:500].replace("\0", "").encode("utf-8", "ignore").decode()
    like = video_id(query.get("like", ""))
    upload = query.get("u")
    return _Asked(
        text=text or None,
        like=None if text else like,
        upload=None if text or like else upload,
        library_filter=_filter_in(query),
        k=whole(query.get("k"), PAGE, 1, MOST_FOUND),
        after=_place(query.get("after", "")),
    )


def _filter_in(query: MultiMapping[str]) -> LibraryFilter:
    return LibraryFilter(
        channel_id=video_id(query.get("channel", "")),
        kind=one_of(query.get("kind"), KINDS),
        split=one_of(query.get("split"), SPLITS),
        first=day(query.get("from")),
        last=day(query.get("to")),
    )


def _place(text: str) -> Place | None:
    """Parse the end of the previous page: `TIME~ID`, or `~ID` for a video without a date."""
    moment, separator, after = text.partition("~")
    if not separator or video_id(after) is None:
        return None
    try:
        return Place(datetime.fromisoformat(moment).replace(tzinfo=UTC) if moment else None, after)
    except ValueError:
        return None


def _next_page(cards: list[VideoCard]) -> str:
    last = cards[-1]
    moment = "" if last.published_at is None else last.published_at.replace(tzinfo=None).isoformat()
    return f"{moment}~{last.video_id}"


async def show(request: web.Request) -> web.Response:
    """GET /."""
    site, asked = request.app[SITE], _asked(request.query)
    if asked.is_search:
        return await _show_found(request, site, asked)

    def read(session: Session) -> tuple[list[VideoCard], dict[str, tuple[str | None, str]]]:
        return library_page(session, asked.library_filter, asked.after, PAGE + 1), channel_titles(session)

    cards, channels = await site.store.read(read)
    shown = cards[:PAGE]
    older = _link(request, after=_next_page(shown)) if len(cards) > PAGE else None
    return site.page(
        request,
        "library.html",
        **_values(asked, channels),
        tiles=[{"card": card, "score": None, "rank": None} for card in shown],
        next_page=older,
        modelled=None,
        trust=None,
        upload_gone=False,
    )


async def _show_found(request: web.Request, site: Site, asked: _Asked) -> web.Response:
    upload = None if asked.upload is None else site.uploads.get(asked.upload)
    # The model searches one channel by itself, with the model that is in use for it.
    filtered = asked.library_filter != LibraryFilter(channel_id=asked.library_filter.channel_id)

    def read(session: Session) -> tuple[list[str] | None, dict[str, tuple[str | None, str]]]:
        only = sorted(filtered_ids(session, asked.library_filter)) if filtered else None
        return only, channel_titles(session)

    only, channels = await site.store.read(read)
    modelled, tiles, trust = Modelled(), list[dict[str, Any]](), None
    if asked.upload is None or upload is not None:
        question = {
            "ask": "search",
            "text": asked.text,
            "picture": {"video": asked.like, "blob": 0},
            "k": asked.k,
            "channels": [] if asked.library_filter.channel_id is None else [asked.library_filter.channel_id],
            "only": only,
        }
        modelled = await site.ask(question, [] if upload is None else [upload.content])
    if modelled.answer is not None:
        answer, results = modelled.answer, modelled.answer["results"]
        ids = [row["video_id"] for row in results]
        cards, trust = await site.store.read(
            lambda session: (video_cards(session, ids), how_far_to_trust(session, answer))
        )
        tiles = [
            {"card": cards[row["video_id"]], "score": row["score"], "rank": row["rank"]}
            for row in results
            if row["video_id"] in cards
        ]
    more = len(tiles) == asked.k < MOST_FOUND
    return site.page(
        request,
        "library.html",
        reload=modelled.progress is not None,
        **_values(asked, channels),
        tiles=tiles,
        next_page=_link(request, k=str(min(asked.k + PAGE, MOST_FOUND))) if more else None,
        modelled=modelled,
        trust=trust,
        upload_gone=asked.upload is not None and upload is None,
    )


def _link(request: web.Request, **changed: str) -> str:
    kept = {name: value for name, value in request.query.items() if name not in ("after", *changed)}
    return "/?" + urlencode({**kept, **changed})


def _values(asked: _Asked, channels: dict[str, tuple[str | None, str]]) -> dict[str, Any]:
    return {
        "active": "library",
        "asked": asked,
        "channels": {channel: handle or title for channel, (handle, title) in channels.items()},
        "filters": _as_query(asked.library_filter),
        "filtered": asked.library_filter != LibraryFilter(),
        "kinds": KINDS,
        "splits": SPLITS,
        "first_page": asked.after is None,
    }


def _as_query(library_filter: LibraryFilter) -> dict[str, str]:
    """Return the filters as they are in a query; empty for any."""
    return {
        "channel": library_filter.channel_id or "",
        "kind": library_filter.kind or "",
        "split": library_filter.split or "",
        "from": "" if library_filter.first is None else library_filter.first.isoformat(),
        "to": "" if library_filter.last is None else library_filter.last.isoformat(),
    }


async def upload(request: web.Request) -> web.Response:
    """POST /search: a picture to search by, and filters."""
    site = request.app[SITE]
    sent = await read_form(request, site.uploads)
    if not sent.uploads:
        raise web.HTTPBadRequest(text="; ".join(sent.problems) or "no picture was sent; choose a file first")
    filters = {name: value for name, value in _as_query(_filter_in(MultiDict(sent.fields))).items() if value}
    raise web.HTTPSeeOther("/?" + urlencode({"u": sent.uploads[0], **filters}))
