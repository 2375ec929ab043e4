"""An HTTP session with bounded retries and response sizes, restrictions on addresses, and flow control."""

from collector.http.flow import ByteBudget, InFlight
from collector.http.session import LARGE_BYTES, Answer, Http, Request, retry_after_s

__all__ = [
    "Answer",
    "ByteBudget",
    "Http",
    "InFlight",
    "LARGE_BYTES",
    "Request",
    "retry_after_s",
]
