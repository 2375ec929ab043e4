"""The stand-in's own errors, and the error responses of the real API.

StandInError: base class; the message has the form `what happened; what to do`.
└── FolderError: a channel folder can't be served.

`ApiError` is separate: it represents a response to a client in the form of
https://developers.google.com/youtube/v3/docs/errors, and is not raised to callers of the server.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ApiError", "FolderError", "StandInError"]


class StandInError(Exception):
    """Base class of the stand-in's errors."""

    exit_code = 1


class FolderError(StandInError):
    """A channel folder is incomplete or can't be read; the message names the file."""


class ApiError(Exception):
    """An error response of the Data API: its HTTP status and JSON body."""

    def __init__(
        self,
        status: int,
        message: str,
        reason: str,
        domain: str,
        *,
        location: str | None = None,
        location_type: str = "parameter",
        google_status: str | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        item: dict[str, Any] = {"message": message, "domain": domain, "reason": reason}
        if location is not None:
            item |= {"location": location, "locationType": location_type}
        error: dict[str, Any] = {"code": status, "message": message, "errors": [item]}
        if google_status is not None:
            error["status"] = google_status
        if details is not None:
            error["details"] = details
        self.body: dict[str, Any] = {"error": error}

    @classmethod
    def missing_key(cls) -> ApiError:
        """The API key is missing."""
        message = (
            "Method doesn't allow unregistered callers (callers without established identity). "
            "Please use API Key or other form of API consumer identity to call this API."
        )
        return cls(403, message, "forbidden", "global", google_status="PERMISSION_DENIED")

    @classmethod
    def invalid_key(cls) -> ApiError:
        """The API key is invalid."""
        detail = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
            "metadata": {"service": "youtube.googleapis.com"},
        }
        return cls(
            400,
            "API key not valid. Please pass a valid API key.",
            "badRequest",
            "global",
            google_status="INVALID_ARGUMENT",
            details=[detail],
        )

    @classmethod
    def quota_exceeded(cls) -> ApiError:
        """The key's daily units are used up."""
        message = (
            "The request cannot be completed because you have exceeded your "
            '<a href="/youtube/v3/getting-started#quota">quota</a>.'
        )
        return cls(403, message, "quotaExceeded", "youtube.quota")

    @classmethod
    def missing_part(cls) -> ApiError:
        """The `part` parameter, which every list method requires, is missing."""
        return cls(400, "Required parameter: part", "required", "global", location="part")

    @classmethod
    def unknown_part(cls, part: str) -> ApiError:
        """The resource has no such `part`."""
        return cls(400, f"'{part}'", "unknownPart", "youtube.part", location="part")

    @classmethod
    def _about_filters(cls, message: str, reason: str) -> ApiError:
        return cls(400, message, reason, "youtube.parameter", location="parameters.", location_type="other")

    @classmethod
    def missing_filter(cls, filters: str) -> ApiError:
        """The call has no parameter that selects what to list."""
        return cls._about_filters(f"No filter selected. Expected one of: {filters}", "missingRequiredParameter")

    @classmethod
    def invalid_filter(cls) -> ApiError:
        """A filter is invalid, for example because it has more than 50 ids."""
        return cls._about_filters("The request specifies an invalid filter parameter.", "invalidFilters")

    @classmethod
    def incompatible(cls, names: str) -> ApiError:
        """The call has more than one filter."""
        message = f"Incompatible parameters specified in the request: {names}"
        return cls._about_filters(message, "incompatibleParameters")

    @classmethod
    def invalid_page_token(cls) -> ApiError:
        """The page token does not belong to this list."""
        return cls(
            400,
            "The request specifies an invalid page token.",
            "invalidPageToken",
            "youtube.parameter",
            location="pageToken",
        )

    @classmethod
    def invalid_value(cls, name: str, value: str, expected: str) -> ApiError:
        """A parameter's value is out of range or malformed."""
        message = f"Invalid value '{value}'. {expected}"
        return cls(400, message, "invalidParameter", "global", location=name)

    @classmethod
    def playlist_not_found(cls) -> ApiError:
        """The playlist does not exist (also the response for the uploads of a channel without videos)."""
        message = "The playlist identified with the request's <code>playlistId</code> parameter cannot be found."
        return cls(404, message, "playlistNotFound", "youtube.playlistItem", location="playlistId")

    @classmethod
    def unsupported(cls, what: str) -> ApiError:
        """This server lacks a feature of the real API; an error prevents a wrong response."""
        return cls(501, f"The stand-in server does not support {what}.", "notImplemented", "thumbtune.standin")
