"""Converts the Data API's error responses to exceptions (https://developers.google.com/youtube/v3/docs/errors)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

from collector.errors import ApiError, BadAnswer, BadKey, CollectorError, QuotaExceeded, Unavailable
from collector.http import Answer, retry_after_s
from collector.youtube.parsing import parse_json

__all__ = ["error_from"]

LONGEST_DETAILS = 20_000
LONGEST_MESSAGE = 2_000
LONGEST_REASON = 100
"""Texts are cut to these lengths before they are examined, so that no expression or conversion takes long."""

_QUOTA = frozenset({"quotaExceeded", "dailyLimitExceeded", "dailyLimitExceededUnreg"})
_TOO_FAST = frozenset(
    {
        "concurrentLimitExceeded",
        "limitExceeded",
        "rateLimitExceeded",
        "rateLimitExceededUnreg",
        "userRateLimitExceeded",
        "RATE_LIMIT_EXCEEDED",
        "QUOTA_EXCEEDED",
        "RESOURCE_EXHAUSTED",
    }
)
_LIMIT_IN_WORDS = re.compile(r"quota exceeded|exceeded your quota", re.IGNORECASE)
# The period of an exceeded limit is in the message ("limit 'Queries per day'", "Daily Limit Exceeded")
# or in the details ("defaultPerDayPerProject", "quota_unit": "1/d/{project}", a violation's description).
_A_DAY = re.compile(r"per[ _-]?day|daily|1/d\b", re.IGNORECASE)
_A_SHORT_TIME = re.compile(r"per[ _-]?(?:100[ _-]?)?(?:minute|second)s?|1/(?:min|s)\b", re.IGNORECASE)

# The first entry with one of the response's reasons describes the problem.
_KEY_PROBLEMS: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"keyExpired"}),
        "the API key has expired; create a new key in the Google Cloud console and set YOUTUBE_API_KEY to it",
    ),
    (
        frozenset({"keyInvalid", "API_KEY_INVALID"}),
        "the API key is invalid; compare YOUTUBE_API_KEY with the key in the Google Cloud console",
    ),
    (
        frozenset({"accessNotConfigured", "SERVICE_DISABLED"}),
        "the YouTube Data API v3 is disabled in the key's project; enable it in the Google Cloud console",
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
        "the API key's restrictions do not allow this use; change them in the Google Cloud console",
    ),
)


def error_from(answer: Answer, host: str, key: str) -> CollectorError:
    """The exception for a response with status 300 or above. No message contains the key."""
    if 300 <= answer.status < 400:
        return ApiError(f"{host} redirects requests ({answer.status}); check THUMBTUNE_API_URL", status=answer.status)
    try:
        error = parse_json(answer.body).get("error")
    except BadAnswer:
        error = None
    if not isinstance(error, dict):
        if answer.status == 429:
            return Unavailable("answered 429", retry_after_s=retry_after_s(answer.headers))
        return ApiError(
            f"{host} answered {answer.status} without a YouTube Data API error; check THUMBTUNE_API_URL",
            status=answer.status,
        )
    reasons = list(_reasons(error))
    message = _plain(_text(error.get("message")) or "no message", key)
    too_fast = (
        429 in (answer.status, error.get("code"))
        or bool(_TOO_FAST.intersection(reasons))
        or _LIMIT_IN_WORDS.search(message) is not None
    )
    if _QUOTA.intersection(reasons) or (too_fast and _is_of_the_day(error, message)):
        return QuotaExceeded(
            "the API key's daily quota is used up, everything so far is kept; "
            "run the command again after midnight Pacific time"
        )
    if too_fast:
        return BadAnswer(f"answered {answer.status} ({message})", retry_after_s=retry_after_s(answer.headers))
    if "key expired" in message.lower():
        reasons.insert(0, "keyExpired")
    for names, explained in _KEY_PROBLEMS:
        if names.intersection(reasons):
            return BadKey(explained)
    if answer.status == 401 or "unregistered callers" in message:
        return BadKey(f"YouTube rejects the API key ({message}); check YOUTUBE_API_KEY")
    return ApiError(
        f"YouTube rejected the request: {message} ({answer.status}); "
        "if this continues, report it with the command's -vv output",
        status=answer.status,
        reason=reasons[0] if reasons else "",
    )


def _is_of_the_day(error: dict[str, Any], message: str) -> bool:
    """Whether the exceeded limit is a daily limit. The details are more precise than the message.

    The API reports an exceeded daily quota as 403 or 429, with or without details
    (https://cloud.google.com/docs/quotas/troubleshoot). Some of these responses differ from those for a limit per
    minute only in the text.
    """
    for text in (_text(error.get("details"), LONGEST_DETAILS), message):
        if _A_DAY.search(text):
            return True
        if _A_SHORT_TIME.search(text):
            return False
    # YouTube uses this phrase for the daily quota only; messages about other limits name the period.
    return "exceeded your quota" in message.lower()


def _reasons(error: dict[str, Any]) -> Iterator[str]:
    for name in ("errors", "details"):
        listed = error.get(name)
        for item in listed if isinstance(listed, list) else ():
            reason = item.get("reason") if isinstance(item, dict) else None
            if isinstance(reason, str):
                yield reason[:LONGEST_REASON]
    status = error.get("status")
    if isinstance(status, str):
        yield status[:LONGEST_REASON]


def _text(value: object, longest: int = LONGEST_MESSAGE) -> str:
    """A value of any type as text, cut before anything else looks at it."""
    if isinstance(value, str):
        return value[:longest]
    try:
        return str(value or "")[:longest]
    except (ValueError, RecursionError):  # a number of thousands of digits, or deep nesting
        return ""


def _plain(message: str, key: str) -> str:
    """The message as one line without markup and without the key (some contain `consumer 'api_key:...'`)."""
    text = " ".join(unescape(re.sub(r"<[^<>]*>", "", message)).split())
    return (text.replace(key, "[key]") if key else text)[:300]
