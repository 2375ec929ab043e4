"""The Data API's list methods: converts a method's name and parameters to the JSON body.

This module does not deal with HTTP: `Api.answer` takes and returns plain values, or raises the `ApiError` that the real
API would send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from thumbtune.standin.catalogue import Catalogue, StandInVideo
from thumbtune.standin.directory import Directory
from thumbtune.standin.errors import ApiError
from thumbtune.standin.paging import etag, page_token, token_offset
from thumbtune.standin.query import Query
from thumbtune.standin.resources import (
    Resource,
    channel_resource,
    playlist_item_resource,
    select,
    video_resource,
)

__all__ = ["Api"]


class Api:
    """Answers the three list methods for any number of channels."""

    def __init__(self, catalogues: Callable[[], Sequence[Catalogue]], base_url: Callable[[], str]) -> None:
        self._catalogues = catalogues
        self._directory = Directory(catalogues)
        self._base_url = base_url

    def answer(self, method: str, values: Mapping[str, Sequence[str]]) -> Resource:
        """Return the JSON body of a call; `values` maps each parameter to all its values.

        Raises:
            ApiError: the call is invalid in a way that the real API reports.
        """
        answers = {
            "channels": self._channels,
            "playlistItems": self._playlist_items,
            "videos": self._videos,
        }
        body = answers[method](Query(method, values))
        return {"kind": f"youtube#{method.removesuffix('s')}ListResponse", "etag": etag(method, body), **body}

    def _channels(self, query: Query) -> Resource:
        filters = [name for name in ("id", "forHandle", "forUsername") if query.one(name)]
        if not filters:
            raise ApiError.missing_filter("forHandle, forUsername, id, managedByMe, mine, mySubscribers")
        if len(filters) > 1:
            raise ApiError.incompatible(", ".join(filters))
        limit = query.page_size()
        found: list[Catalogue] = []
        if filters == ["id"]:
            found = [c for i in query.ids() if (c := self._directory.channel(i)) is not None]
        elif filters == ["forHandle"]:
            handle = _bare_handle(query.one("forHandle") or "")
            found = [c for c in self._catalogues() if _bare_handle(c.handle) == handle]
        items = [select(channel_resource(c, self._base_url()), query.parts) for c in found]
        body = _page_info(len(items), limit)
        return body | {"items": items} if items else body  # the real API omits `items` if nothing was found

    def _playlist_items(self, query: Query) -> Resource:
        playlist_id = query.one("playlistId")
        if not playlist_id:
            raise ApiError.missing_filter("id, playlistId")
        limit = query.page_size()
        catalogue, listed = self._playlist(playlist_id)
        listing = f"playlistItems {playlist_id}"
        start = token_offset(listing, query.one("pageToken"))
        only = query.one("videoId")
        if only is None:
            total, page = len(listed), list(enumerate(listed[start : start + limit], start))
        else:
            page = [(i, v) for i, v in enumerate(listed) if v.id == only]
            total = len(page)
        base = self._base_url()
        items = [select(playlist_item_resource(catalogue, v, i, base, playlist_id), query.parts) for i, v in page]
        more = {"nextPageToken": page_token(listing, start + limit)} if limit and start + limit < total else {}
        return more | _page_info(total, limit) | {"items": items}

    def _playlist(self, playlist_id: str) -> tuple[Catalogue, tuple[StandInVideo, ...]]:
        """Return a channel's uploads or Shorts. On YouTube, an empty list does not exist."""
        for prefix, videos in (("UU", Catalogue.listed), ("UUSH", Catalogue.shorts)):
            if playlist_id.startswith(prefix):
                catalogue = self._directory.channel("UC" + playlist_id.removeprefix(prefix))
                if catalogue is not None and (listed := videos(catalogue)):
                    return catalogue, listed
        raise ApiError.playlist_not_found()

    def _videos(self, query: Query) -> Resource:
        if not query.one("id"):
            raise ApiError.missing_filter("chart, id, myRating")
        base = self._base_url()
        found = filter(None, map(self._directory.video, query.ids()))
        items = [select(video_resource(catalogue, video, base), query.parts) for catalogue, video in found]
        return _page_info(len(items), len(items)) | {"items": items}


def _page_info(total: int, per_page: int) -> Resource:
    return {"pageInfo": {"totalResults": total, "resultsPerPage": per_page}}


def _bare_handle(handle: str) -> str:
    return handle.removeprefix("@").casefold()
