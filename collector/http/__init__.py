"""HTTP: a session with bounded retries and response sizes, restrictions on addresses, flow control; bounded serving."""

from collector.http.bodies import LARGE_BYTES
from collector.http.flow import ByteBudget, InFlight
from collector.http.serving import Limits, Listen, note_work, parse_listen, serve_bounded
from collector.http.session import Answer, Http, Request, retry_after_s

__all__ = [
    "Answer",
    "ByteBudget",
    "Http",
    "InFlight",
    "LARGE_BYTES",
    "Limits",
    "Listen",
    "Request",
    "note_work",
    "parse_listen",
    "retry_after_s",
    "serve_bounded",
]
