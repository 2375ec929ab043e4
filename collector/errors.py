"""Errors of the collector.

CollectorError                 the root: anything that keeps a channel from being synced
├── BadChannel                 what was given names no channel (exit code 2)
├── BadSetting                 an option or environment variable has a value that can't be used (exit code 2)
├── MissingKey                 there is no API key (exit code 2)
├── ChannelNotFound            well named, but YouTube has no such channel
├── ChannelGone                the store has its videos, but YouTube no longer lists it
├── ChannelBusy                another process is syncing it; stays inside the collector, as a report
├── BadKey                     YouTube refuses the API key
├── QuotaExceeded              the key's units of the day are spent (exit code 3)
│   └── BudgetSpent            those that were allowed are
├── ApiError                   the API refuses a request; `status` and `reason` say why
├── PageLoop                   the listing's pages never end
├── CantListen                 the service's own address is not available
├── PictureError               one thumbnail can't be used; stays inside the collector, as a row in the store
└── TransientError             given up after several tries; a later sync may succeed
    ├── NetworkError           the server can't be reached, or breaks off
    └── BadAnswer              it answers, but not as it should: HTML, broken JSON
        └── Unavailable        it answers that it can't now: 5xx, 429
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
    """Root of the collector's errors. The message reads `what happened; what to do`."""

    exit_code = 1


class BadChannel(CollectorError):
    """The text is no channel id, no handle and no channel's address."""

    exit_code = 2


class BadSetting(CollectorError):
    """An option or environment variable has a value that can't be used."""

    exit_code = 2


class MissingKey(CollectorError):
    """YOUTUBE_API_KEY is not set."""

    exit_code = 2


class ChannelNotFound(CollectorError):
    """YouTube has no channel of that name."""


class ChannelGone(CollectorError):
    """YouTube no longer has a channel, or its list of uploads, that the store has videos of."""

    def __init__(self, channel_id: str, *, refreshed: bool) -> None:
        marked = (
            "each of its videos is asked for, and marked if it is gone"
            if refreshed
            else f"'thumbtune sync --refresh {channel_id}' asks for each of its videos"
        )
        super().__init__(
            f"YouTube no longer lists channel {channel_id}, or its uploads: it was closed or hidden; "
            f"the store keeps what it has, and {marked}"
        )


class ChannelBusy(CollectorError):
    """Another process is syncing the channel, or has just done so."""


class BadKey(CollectorError):
    """The API key is invalid, restricted, or its project has the API switched off."""


class QuotaExceeded(CollectorError):
    """The day's units are spent; all that was read is kept."""

    exit_code = 3


class BudgetSpent(QuotaExceeded):
    """The units that the caller allowed are spent."""


class ApiError(CollectorError):
    """The API refuses a request for good.

    Attributes:
        status: the HTTP status.
        reason: the API's own word for it (`playlistNotFound`, ...), empty when it gives none.
    """

    def __init__(self, message: str, *, status: int, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class PageLoop(CollectorError):
    """A listing that comes back to a page it has been on, or has far more pages than videos."""


class CantListen(CollectorError):
    """The address of /healthz, /readyz and /metrics is in use, or not this machine's."""


class PictureError(CollectorError):
    """One thumbnail can't be used; the message is the reason that the store keeps.

    Attributes:
        url: what was asked for last, None when there was nothing to ask for.
    """

    def __init__(self, message: str, *, url: str | None = None) -> None:
        super().__init__(message)
        self.url = url


class TransientError(CollectorError):
    """Something that another try may heal.

    Attributes:
        retry_after_s: seconds that the server asked to be left alone, None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NetworkError(TransientError):
    """The server can't be reached, is too slow, or breaks off in the middle."""


class BadAnswer(TransientError):
    """The server answers with an error of its own, or with something that is not what was asked for."""


class Unavailable(BadAnswer):
    """The server answers that it can't now, or not so often."""
