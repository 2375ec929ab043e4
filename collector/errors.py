"""Errors of the collector.

CollectorError                 base class of all errors that stop a channel's sync
├── BadChannel                 the text is not a valid channel name (exit code 2)
├── BadSetting                 an option or environment variable has an invalid value (exit code 2)
├── MissingKey                 the API key is not set (exit code 2)
├── ChannelNotFound            the name is valid, but YouTube has no such channel
├── ChannelGone                the store has the channel's videos, but YouTube no longer lists them
├── ChannelBusy                another process is syncing the channel; handled inside the collector as a report
├── BadKey                     YouTube rejects the API key
├── QuotaExceeded              the key's daily quota is used up (exit code 3)
│   └── BudgetSpent            the units that the caller allowed are used up
├── ApiError                   the API rejects a request; `status` and `reason` say why
├── PageLoop                   the pages of a listing never end
├── CantListen                 the service can't bind its address
├── PictureError               a thumbnail can't be used; handled inside the collector as a row in the store
└── TransientError             all retries failed; a later sync may succeed
    ├── NetworkError           the server can't be reached, or the connection broke
    └── BadAnswer              the response is invalid: HTML, malformed JSON
        └── Unavailable        the server reports a temporary failure: 5xx, 429
"""

from __future__ import annotations

__all__ = [
    "ApiError",
    "BadAnswer",
    "BadChannel",
    "BadKey",
    "BadSetting",
    "BudgetSpent",
    "CantListen",
    "ChannelBusy",
    "ChannelGone",
    "ChannelNotFound",
    "CollectorError",
    "MissingKey",
    "NetworkError",
    "PageLoop",
    "PictureError",
    "QuotaExceeded",
    "TransientError",
    "Unavailable",
]


class CollectorError(Exception):
    """Base class of the collector's errors. The message has the form `what happened; what to do`."""

    exit_code = 1


class BadChannel(CollectorError):
    """The text is not a channel id, a handle or a channel's URL."""

    exit_code = 2


class BadSetting(CollectorError):
    """An option or environment variable has an invalid value."""

    exit_code = 2


class MissingKey(CollectorError):
    """YOUTUBE_API_KEY is not set, or a channel's owner has no key."""

    exit_code = 2


class ChannelNotFound(CollectorError):
    """YouTube has no channel with that name."""


class ChannelGone(CollectorError):
    """YouTube no longer lists a channel, or its uploads, whose videos are in the store."""

    def __init__(self, channel_id: str, *, refreshed: bool) -> None:
        marked = (
            "this refresh checks each video and marks the removed ones"
            if refreshed
            else f"run 'thumbtune sync --refresh {channel_id}' to check each video"
        )
        super().__init__(
            f"YouTube no longer lists channel {channel_id} or its uploads (closed or hidden); "
            f"the stored videos are kept; {marked}"
        )


class ChannelBusy(CollectorError):
    """Another process is syncing the channel, or has just synced it."""


class BadKey(CollectorError):
    """The API key is invalid or restricted, or the API is not enabled in its project."""


class QuotaExceeded(CollectorError):
    """The key's daily quota is used up; everything read so far is kept."""

    exit_code = 3


class BudgetSpent(QuotaExceeded):
    """The units that the caller allowed are used up."""


class ApiError(CollectorError):
    """The API rejects a request, and a retry would not help.

    Attributes:
        status: the HTTP status.
        reason: the API's error reason (`playlistNotFound`, ...); empty if the response has no reason.
    """

    def __init__(self, message: str, *, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class PageLoop(CollectorError):
    """A listing repeats a page token, or has far more pages than its number of videos explains."""


class CantListen(CollectorError):
    """The address for /healthz, /readyz and /metrics is in use, or does not belong to this machine."""


class PictureError(CollectorError):
    """A thumbnail can't be used; the store keeps the message as the reason.

    Attributes:
        url: the URL of the last request; None if the video has no thumbnail URL.
    """

    def __init__(self, message: str, *, url: str | None = None) -> None:
        super().__init__(message)
        self.url = url


class TransientError(CollectorError):
    """A failure that a retry may resolve.

    Attributes:
        retry_after_s: the delay that the server requested, in seconds; None if it requested none.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NetworkError(TransientError):
    """The server can't be reached, does not answer in time, or closes the connection early."""


class BadAnswer(TransientError):
    """The server sends an error, or a response of the wrong kind."""


class Unavailable(BadAnswer):
    """The server is temporarily unavailable (5xx), or limits the request rate (429)."""
