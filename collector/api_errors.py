"""The Data API's error answers, turned into ours (https://developers.google.com/youtube/v3/docs/errors)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

from collector.errors import ApiError, BadAnswer, BadKey, CollectorError, QuotaExceeded
from collector.http import Answer, retry_after_s
from collector.parsing import parse_json

__all__ = ["error_from"]

_QUOTA = frozenset({"quotaExceeded", "dailyLimitExceeded", "dailyLimitExceededUnreg"})
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED"})

# The first of these that is among an answer's reasons says what is wrong with the key.
_KEY_PROBLEMS: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"keyExpired"}),
        "the API key has expired; make a new one in the Google Cloud console and set YOUTUBE_API_KEY to it",
    ),
    (
        frozenset({"keyInvalid", "API_KEY_INVALID"}),
        "YouTube does not know this API key; check YOUTUBE_API_KEY against the Google Cloud console",
    ),
    (
        frozenset({"accessNotConfigured", "SERVICE_DISABLED"}),
        "the key's project has the YouTube Data API v3 switched off; enable it in the Google Cloud console",
    ),
    (
        frozenset(
            {
                "ipRefererBlocked",
                "API_KEY_IP_ADDRESS_BLOCKED",
                "API_KEY_HTTP_REFERRER_BLOCKED",
                "API_KEY_SERVICE_BLOCKED",
                "API_KEY_ANDROID_APP_BLOCKED",
                "API_KEY_IOS_APP_BLOCKED",
            }
        ),
        "the API key is restricted and may not be used from here; change its restrictions in the Google Cloud console",
    ),
)


def error_from(answer: Answer, host: str, key: str) -> CollectorError:
    """The error that an answer with a status of 300 and above stands for. The key is in no message."""
    if 300 <= answer.status < 400:
        return ApiError(
            f"{host} sends requests elsewhere ({answer.status}); check THUMBTUNE_API_URL", status=answer.status
        )
    try:
        error = parse_json(answer.body).get("error")
    except BadAnswer:
        error = None
    if not isinstance(error, dict):
        return ApiError(
            f"{host} answered {answer.status}, not as the YouTube Data API does; check THUMBTUNE_API_URL",
            status=answer.status,
        )
    reasons = list(_reasons(error))
    message = _plain(str(error.get("message") or "no message"), key)
    if _QUOTA.intersection(reasons) or (answer.status == 429 and "PerDay" in str(error.get("details"))):
        return QuotaExceeded(
            "the API key's quota of the day is spent, everything so far is kept; "
            "run the command again after midnight Pacific time"
        )
    if answer.status == 429 or _TOO_FAST.intersection(reasons):
        return BadAnswer(f"answered {answer.status} ({message})", retry_after_s=retry_after_s(answer.headers))
    if "key expired" in message.lower():
        reasons.insert(0, "keyExpired")
    for names, explained in _KEY_PROBLEMS:
        if names.intersection(reasons):
            return BadKey(explained)
    if answer.status == 401 or "unregistered callers" in message:
        return BadKey(f"YouTube does not accept the API key ({message}); check YOUTUBE_API_KEY")
    return ApiError(
        f"YouTube refused the request: {message} ({answer.status}); "
        "if this goes on, report it with the command's -vv output",
        status=answer.status,
        reason=reasons[0] if reasons else "",
    )


def _reasons(error: dict[str, Any]) -> Iterator[str]:
    for name in ("errors", "details"):
        listed = error.get(name)
        for item in listed if isinstance(listed, list) else ():
            reason = item.get("reason") if isinstance(item, dict) else None
            if isinstance(reason, str):
                yield reason
    status = error.get("status")
    if isinstance(status, str):
        yield status


def _plain(message: str, key: str) -> str:
    """One line without markup. Real messages quote the key at times (`consumer 'api_key:...'`)."""
    text = " ".join(unescape(re.sub(r"<[^>]*>", "", message)).split())
    return (text.replace(key, "[key]") if key else text)[:300]
