"""The format of log lines: text for users, or one JSON object per line for programs."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from store.urls import shown_text
from thumbtune.console import printable
from thumbtune.interrupts import was_received

__all__ = ["JsonLines", "LogFormat", "TextLines", "configure_logging"]

LogFormat = Literal["text", "json"]

OURS = ("collector", "store", "thumbtune", "trainer")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextLines(logging.Formatter):
    """Time, level, logger and message; control characters in untrusted text are escaped."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the base class's name)
        """Format one safe line."""
        return printable(shown_text(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the base class's name)
        """Format the traceback with every line made safe."""
        return "\n".join(printable(shown_text(line)) for line in super().formatException(ei).split("\n"))


class JsonLines(logging.Formatter):
    """`time` (ISO 8601, UTC), `level`, `logger`, `message`, the record's extra fields, and `exception` if there is one.

    Fields with a leading underscore are omitted: libraries such as Ray add private fields to every record.
    ASCII only, so that no title can break a line or control a terminal.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one JSON object on one line."""
        document: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": shown_text(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and name not in document and not name.startswith("_"):
                document[name] = value
        if record.exc_info:
            document["exception"] = shown_text(self.formatException(record.exc_info))
        return json.dumps(document, default=str)


def _is_not_a_signal(record: logging.LogRecord) -> bool:
    return not record.exc_info or not isinstance(record.exc_info[1], KeyboardInterrupt)


def _is_no_consequence_of_a_signal(record: logging.LogRecord) -> bool:
    return _is_not_a_signal(record) and not (record.exc_info and was_received())


def configure_logging(verbosity: int, style: LogFormat = "text") -> None:
    """Write thumbtune's logs to stderr: warnings at verbosity 0, more from 1, all from 2.

    With `json`, warnings of other libraries and of Python itself have the same format, so that every line is JSON.
    Records of a signal's exception, which libraries log before they raise it again, are not written.
    """
    level = {0: logging.WARNING, 1: logging.INFO}.get(max(verbosity, 0), logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    handler.addFilter(_is_not_a_signal)
    if logging.lastResort is not None:  # it writes what other libraries log
        logging.lastResort.addFilter(_is_no_consequence_of_a_signal)
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [handler]
        logger.propagate = False
    if style == "json":
        logging.getLogger().handlers = [handler]
        logging.captureWarnings(True)
