"""The YouTube Data API v3 client: channels, uploads, videos in batches; every call costs one unit.

Prices: https://developers.google.com/youtube/v3/determine_quota_cost. The key travels in a header, never in a URL.
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
"""Ids a `videos` call, and entries a page: the most that the API takes."""


class YouTube:
    """The client. `units` counts what was spent; once the quota is, every further call fails without being sent.

    A request whose answer never came, or not whole, counts, too, whatever cut it short: nobody can know whether it was
    charged, and a unit too many does less harm than one too few. An answer of 5xx or of too many requests does not.

    Args:
        http: a session.
        settings: key and address.
        most_units: units that may be spent; what would cost more counts as a spent quota. None: no such limit. An
            attribute, too: it may change with what others spend.
    """

    def __init__(self, http: Http, settings: Settings, most_units: int | None = None) -> None:
        self.units = 0
        self.most_units = most_units
        self._in_flight = 0
        self.quota_spent: QuotaExceeded | None = None
        self._http = http
        self._settings = settings

    async def channel(self, name: ChannelName) -> ChannelItem:
        """Look a channel up. Old custom addresses cost up to two calls, anything else one.

        Raises:
            ChannelNotFound: no channel has that name.
            CollectorError: see `_call`.
        """
        for parameter in self._lookups(name):
            body = await self._call("channels", (("part", "snippet,contentDetails"), parameter), parse_channels)
            # Asked by its id, a channel answers with that id, or it is not the one.
            found = [item for item in body if name.kind != "id" or item.id == name.value]
            if found:
                return found[0]
        raise ChannelNotFound(f"YouTube has no channel {name}; check the spelling, or copy its address from a browser")

    @staticmethod
    def _lookups(name: ChannelName) -> tuple[tuple[str, str], ...]:
        if name.kind == "custom":
            # The API can't look these up; nearly all of them became the handle of the same name.
            return ("forHandle", f"@{name.value}"), ("forUsername", name.value)
        return ((({"id": "id", "handle": "forHandle", "user": "forUsername"}[name.kind]), name.value),)

    async def uploads_page(self, playlist_id: str, token: str | None) -> UploadsPage:
        """One page of 50 of a channel's uploads, newest first; empty for a channel that has none.

        Raises:
            ApiError: with reason `invalidPageToken` when the token is no good (any more).
            CollectorError: see `_call`.
        """
        return await self._page(playlist_id, () if token is None else (("pageToken", token),))

    async def shorts_page(
        self, channel_id: str, token: str | None = None, *, video_id: str | None = None
    ) -> UploadsPage:
        """One page of 50 of a channel's list of Shorts, newest first, or only a video's entry in it, if it has one.

        The list is undocumented: its id is the channel's with `UUSH` for `UC`. Channels without Shorts have none.

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
            log.warning("%d entries of %s have no usable video id and were left out", page.skipped, playlist_id)
        return page

    async def videos(self, ids: Sequence[str]) -> list[VideoItem]:
        """The details of up to 50 videos; those that are private or deleted are missing from the answer.

        Raises:
            ValueError: no ids, or more than 50.
            CollectorError: see `_call`.
        """
        if not 1 <= len(ids) <= BATCH:
            raise ValueError(f"1 to {BATCH} ids a call; got {len(ids)}")
        parameters = (
            ("part", "snippet,contentDetails,status,liveStreamingDetails,statistics"),
            ("id", ",".join(ids)),
            ("maxResults", str(BATCH)),
        )
        wanted = set(ids)
        found = await self._call("videos", parameters, parse_videos)
        return list({video.id: video for video in found if video.id in wanted}.values())

    async def _call(self, method: str, parameters: tuple[tuple[str, str], ...], parse: Callable[[JsonObject], T]) -> T:
        """One call of a list method; cancelled while a request is under way, it has cost a unit.

        Raises:
            BadKey, QuotaExceeded, ApiError: the API refuses it.
            BudgetSpent: it could cost more than is allowed.
            NetworkError, BadAnswer: no usable answer after several tries.
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
                raise BadAnswer("the answer is far too long")
            if answer.status >= 300:
                error = error_from(answer, request.host, self._settings.key)
                # Refusals cost as much as answers, except when there is nothing left to pay with, or no valid key.
                self.units += isinstance(error, ApiError)
                raise error
            self.units += 1
            if answer.headers.get("Content-Type", "").partition(";")[0].strip() == "text/html":
                raise BadAnswer("answers with a web page, not as the YouTube Data API does (see THUMBTUNE_API_URL)")
            return parse(parse_json(answer.body))

        def pay_for(lost: int) -> None:
            self.units += lost

        self._in_flight += 1
        try:
            self._check_budget()
            # What failed was paid for in vain, more often than not, and another try costs another unit.
            return await self._http.get(request, read, lost=pay_for, failed=self._check_budget)
        except QuotaExceeded as error:
            self.quota_spent = error
            raise
        finally:
            self._in_flight -= 1

    def _check_budget(self, cause: Exception | None = None) -> None:
        """Raise `BudgetSpent` unless all calls that are under way may cost a unit each."""
        if self.most_units is not None and self.units + self._in_flight > self.most_units:
            raise BudgetSpent(
                "the units allowed for the day are spent, everything so far is kept; "
                "allow more, or continue after midnight Pacific time"
            ) from cause
