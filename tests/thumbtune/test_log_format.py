"""Log lines: safe for terminals, and readable by programs."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from thumbtune.log_format import JsonLines, TextLines

HOSTILE = "a\nb\x1b[31m\u202ec\u2028"


def logged(formatter: logging.Formatter, level: int, message: str, *values: object, **options: object) -> str:
    stream = io.StringIO()
    logger = logging.Logger("collector.tests")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    logger.log(level, message, *values, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_json_line_has_the_extra_fields() -> None:
    before = datetime.now(UTC)
    line = logged(JsonLines(), logging.INFO, "%s: %d", "x", 3, extra={"channel": "UC1", "units": 3, "until": before})
    document = json.loads(line)
    assert abs((datetime.fromisoformat(document.pop("time")) - before).total_seconds()) < 60
    assert document == {
        "level": "info",
        "logger": "collector.tests",
        "message": "x: 3",
        "channel": "UC1",
        "units": 3,
        "until": str(before),
    }


def test_extra_fields_do_not_replace_the_standard_fields() -> None:
    before = datetime.now(UTC)
    line = logged(JsonLines(), logging.INFO, "x", extra={"time": "never", "level": "none", "logger": "other", "n": 1})
    document = json.loads(line)
    assert abs((datetime.fromisoformat(document.pop("time")) - before).total_seconds()) < 60
    assert document == {"level": "info", "logger": "collector.tests", "message": "x", "n": 1}


def test_private_attributes_that_libraries_set_on_records_are_omitted() -> None:
    ours = logging.getLogRecordFactory()

    def marked(*values: object, **options: object) -> logging.LogRecord:
        record = ours(*values, **options)
        record._ray_timestamp_ns = 1  # as `import ray` does
        return record

    logging.setLogRecordFactory(marked)
    try:
        document = json.loads(logged(JsonLines(), logging.INFO, "x", extra={"n": 1}))
    finally:
        logging.setLogRecordFactory(ours)
    assert set(document) == {"time", "level", "logger", "message", "n"}


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines()])
def test_untrusted_text_stays_on_one_line_and_is_escaped(formatter: logging.Formatter) -> None:
    line = logged(formatter, logging.WARNING, "title %s", HOSTILE, extra={"channel": HOSTILE})
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    assert not {"\x1b", "\u202e", "\u2028"} & set(line)
    if isinstance(formatter, JsonLines):
        assert json.loads(line)["message"] == f"title {HOSTILE}"


def test_tracebacks_are_escaped() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        text = logged(TextLines(), logging.ERROR, "broke", exc_info=error)
    assert text.splitlines()[1] == "Traceback (most recent call last):"
    assert not {"\x1b", "\u202e", "\u2028"} & set(text)


def test_an_exception_is_one_field() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError as error:
        line = logged(JsonLines(), logging.ERROR, "broke", exc_info=error)
    assert len(line.splitlines()) == 1
    assert "Traceback" in json.loads(line)["exception"]


@pytest.mark.processes
def test_every_log_line_of_a_command_is_json_including_those_of_libraries(tmp_path: Path) -> None:
    program = (
        "import asyncio, logging, warnings\n"
        "from thumbtune.log_format import configure_logging\n"
        "configure_logging(1, 'json')\n"
        "logging.getLogger('collector.x').info('one')\n"
        "logging.getLogger('collector.x').debug('not shown')\n"
        "logging.getLogger('aiohttp.server').error('two')\n"
        "warnings.warn('three')\n"
        "async def forgotten():\n"
        "    task = asyncio.create_task(fail())\n"
        "    await asyncio.sleep(0)\n"
        "async def fail():\n"
        "    raise ValueError('four')\n"
        "asyncio.run(forgotten())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    documents = [json.loads(line) for line in done.stderr.splitlines()]
    assert [document["message"] for document in documents[:2]] == ["one", "two"]
    assert "three" in documents[2]["message"]
    assert "ValueError: four" in documents[3]["exception"]
    assert len(documents) == 4


FAILURES = """
import logging, sys
from thumbtune.log_format import configure_logging
configure_logging(0, sys.argv[1])
for failure in (KeyboardInterrupt, ValueError):
    for name in ("collector", "another library"):
        try:
            raise failure
        except BaseException:
            logging.getLogger(name).exception("closing failed")
"""


@pytest.mark.processes
@pytest.mark.parametrize("style", ["text", "json"])
def test_exceptions_of_signals_are_not_logged_but_others_are(style: str) -> None:
    done = subprocess.run([sys.executable, "-c", FAILURES, style], capture_output=True, text=True, check=True)
    counts = [done.stderr.count(text) for text in ("KeyboardInterrupt", "ValueError", "closing failed")]
    assert counts == [0, 2, 2]
