"""Client for the YouTube Data API v3: channels, uploads, and videos in batches. Each call costs one quota unit.

Quota costs: https://developers.google.com/youtube/v3/determine_quota_cost. The key is sent in a header, never in a URL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from collector.errors import ApiError, BadAnswer, BudgetSpent, ChannelNotFound, QuotaExceeded
from collector.http import Answer, Http, Request
from collector.settings import Settings
from collector.youtube.api_errors import error_from
from collector.youtube.names import ChannelName
from collector.youtube.parsing import (
    ChannelItem,
    JsonObject,
    UploadsPage,
    VideoItem,
    parse_channels,
    parse_json,
    parse_uploads_page,
    parse_videos,
)

__all__ = ["BATCH", "YouTube"]

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 50
"""The API's maximum of ids per `videos` call and of entries per page."""


class YouTube:
    """A client of the Data API. After a `QuotaExceeded` error, further calls fail without sending a request.

    Attributes:
        units: the units spent. They include requests without a complete response, because it is unknown whether
            YouTube charged them; they exclude responses with 5xx or 429.
        quota_spent: the error that ended the calls; None before.

    Args:
        http: an open session.
        settings: the API key and URL.
        most_units: the most units to spend; a call that could exceed it raises `BudgetSpent`. None: no limit. Callers
            may change the attribute, since other processes spend units of the same key.
    """

    def __init__(self, http: Http, settings: Settings, most_units: int | None = None) -> None:
        self.units = 0
        self.most_units = most_units
        self._in_flight = 0
        self.quota_spent: QuotaExceeded | None = None
        self._http = http
        self._settings = settings

    async def channel(self, name: ChannelName) -> ChannelItem:
        """Look up a channel. A custom URL takes up to two calls, any other name takes one call.

        Raises:
            ChannelNotFound: no channel has that name.
            CollectorError: see `_call`.
        """
        for parameter in self._lookups(name):
            body = await self._call("channels", (("part", "snippet,contentDetails"), parameter), parse_channels)
            # A response to a lookup by id must have that id.
            found = [item for item in body if name.kind != "id" or item.id == name.value]
            if found:
                return found[0]
        raise ChannelNotFound(f"YouTube has no channel {name}; check the spelling, or copy its URL from a browser")

    @staticmethod
    def _lookups(name: ChannelName) -> tuple[tuple[str, str], ...]:
        if name.kind == "custom":
            # The API has no lookup for custom URLs; nearly all of them became the handle of the same name.
            return ("forHandle", f"@{name.value}"), ("forUsername", name.value)
        return ((({"id": "id", "handle": "forHandle", "user": "forUsername"}[name.kind]), name.value),)

    async def uploads_page(self, playlist_id: str, token: str | None) -> UploadsPage:
        """One page of up to 50 uploads of a channel, newest first; empty if the channel has none.

        Raises:
            ApiError: with reason `invalidPageToken` if the token is invalid or has expired.
            CollectorError: see `_call`.
        """
        return await self._page(playlist_id, () if token is None else (("pageToken", token),))

    async def shorts_page(
        self, channel_id: str, token: str | None = None, *, video_id: str | None = None
    ) -> UploadsPage:
        """One page of up to 50 entries of a channel's list of Shorts, newest first, or only the entry of `video_id`.

        The list is undocumented: its id is the channel's with `UUSH` for `UC`. Channels without Shorts have no list.

        Raises:
            CollectorError: see `uploads_page`.
        """
        given = (("pageToken", token), ("videoId", video_id))
        return await self._page(
            "UUSH" + channel_id.removeprefix("UC"), tuple((name, value) for name, value in given if value is not None)
        )

    async def _page(self, playlist_id: str, more: tuple[tuple[str, str], ...]) -> UploadsPage:
        parameters = (
            ("part", "snippet,contentDetails,status"),
            ("playlistId", playlist_id),
            ("maxResults", str(BATCH)),
            *more,
        )
        try:
            page = await self._call("playlistItems", parameters, parse_uploads_page)
        except ApiError as error:
            if error.status == 404 and error.reason == "playlistNotFound":
                return UploadsPage((), None, 0, 0, found=False)
            raise
        if page.skipped:
            log.warning("skipped %d entries of %s without a valid video id", page.skipped, playlist_id)
        return page

    async def videos(self, ids: Sequence[str]) -> list[VideoItem]:
        """The details of up to 50 videos. The result omits private and deleted videos.

        Raises:
            ValueError: `ids` is empty, or has more than 50 entries.
            CollectorError: see `_call`.
        """
        if not 1 <= len(ids) <= BATCH:
            raise ValueError(f"expected 1 to {BATCH} ids, got {len(ids)}")
        parameters = (
            ("part", "snippet,contentDetails,status,liveStreamingDetails,statistics"),
            ("id", ",".join(ids)),
            ("maxResults", str(BATCH)),
        )
        requested = set(ids)
        found = await self._call("videos", parameters, parse_videos)
        return list({video.id: video for video in found if video.id in requested}.values())

    async def _call(self, method: str, parameters: tuple[tuple[str, str], ...], parse: Callable[[JsonObject], T]) -> T:
        """Call a list method. A call that is cancelled during a request counts as one unit.

        Raises:
            BadKey, QuotaExceeded, ApiError: the API rejects the request.
            BudgetSpent: the call could exceed `most_units`.
            NetworkError, BadAnswer: no valid response after all retries.
        """
        if self.quota_spent is not None:
            raise self.quota_spent
        request = Request(
            url=f"{self._settings.api_url}/{method}",
            params=parameters,
            headers=(("X-Goog-Api-Key", self._settings.key), ("Accept", "application/json")),
            explains_429=True,
        )

        def read(answer: Answer) -> T:
            if not answer.complete:
                self.units += 1
                raise BadAnswer("the response is too long")
            if answer.status >= 300:
                error = error_from(answer, request.host, self._settings.key)
                # Rejected requests cost a unit, too, except with an exceeded quota or an invalid key.
                self.units += isinstance(error, ApiError)
                raise error
            self.units += 1
            if answer.headers.get("Content-Type", "").partition(";")[0].strip() == "text/html":
                raise BadAnswer("sent HTML instead of a YouTube Data API response (see THUMBTUNE_API_URL)")
            return parse(parse_json(answer.body))

        def pay_for(lost: int) -> None:
            self.units += lost

        self._in_flight += 1
        try:
            self._check_budget()
            # Each retry may cost another unit, so the budget is checked again before it.
            return await self._http.get(request, read, lost=pay_for, failed=self._check_budget)
        except QuotaExceeded as error:
            self.quota_spent = error
            raise
        finally:
            self._in_flight -= 1

    def _check_budget(self, cause: Exception | None = None) -> None:
        """Raise `BudgetSpent` unless the budget covers one unit for each call in progress."""
        if self.most_units is not None and self.units + self._in_flight > self.most_units:
            raise BudgetSpent(
                "the units allowed for the day are used up, everything so far is kept; "
                "allow more, or continue after midnight Pacific time"
            ) from cause
