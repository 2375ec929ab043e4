"""The Data API's error answers, turned into ours (https://developers.google.com/youtube/v3/docs/errors)."""

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
# How the API names the period of an exceeded limit: in the message ("limit 'Queries per day'", "Daily Limit Exceeded")
# or in the details ("defaultPerDayPerProject", "quota_unit": "1/d/{project}", a violation's description).
_A_DAY = re.compile(r"per[ _-]?day|daily|1/d\b", re.IGNORECASE)
_A_SHORT_TIME = re.compile(r"per[ _-]?(?:100[ _-]?)?(?:minute|second)s?|1/(?:min|s)\b", re.IGNORECASE)

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
        if answer.status == 429:
            return Unavailable("answered 429", retry_after_s=retry_after_s(answer.headers))
        return ApiError(
            f"{host} answered {answer.status}, not as the YouTube Data API does; check THUMBTUNE_API_URL",
            status=answer.status,
        )
    reasons = list(_reasons(error))
    message = _plain(str(error.get("message") or "no message"), key)
    too_fast = (
        429 in (answer.status, error.get("code"))
        or bool(_TOO_FAST.intersection(reasons))
        or _LIMIT_IN_WORDS.search(message) is not None
    )
    if _QUOTA.intersection(reasons) or (too_fast and _is_of_the_day(error, message)):
        return QuotaExceeded(
            "the API key's quota of the day is spent, everything so far is kept; "
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
        return BadKey(f"YouTube does not accept the API key ({message}); check YOUTUBE_API_KEY")
    return ApiError(
        f"YouTube refused the request: {message} ({answer.status}); "
        "if this continues, report it with the command's -vv output",
        status=answer.status,
        reason=reasons[0] if reasons else "",
    )


def _is_of_the_day(error: dict[str, Any], message: str) -> bool:
    """Whether the limit that was exceeded is one for a day. The details are more precise than the message.

    The API has answered a spent day as 403 and as 429, with and without details
    (https://cloud.google.com/docs/quotas/troubleshoot); some of these differ from a limit for a minute in words only.
    """
    for text in (str(error.get("details") or "")[:LONGEST_DETAILS], message):
        if _A_DAY.search(text):
            return True
        if _A_SHORT_TIME.search(text):
            return False
    # What YouTube says of a spent day; it names the period of any other limit.
    return "exceeded your quota" in message.lower()


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
