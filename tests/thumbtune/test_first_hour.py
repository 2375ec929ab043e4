"""Each command of docs/first-hour.md in a terminal, with the stand-in server instead of YouTube."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import termios
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import forked
from tests.collector.channels import channel, jpeg, video
from tests.standin import StandIn

pytestmark = [pytest.mark.processes, pytest.mark.slow]

DOCUMENT = Path(__file__).parents[2] / "docs" / "first-hour.md"
SUMMARIES = ("train", "sync", "evaluate")
WIDTHS = (80, 100, 120)
TABLES = (
    "thumbtune runs",
    "thumbtune runs show 1",
    "thumbtune runs champions",
    "thumbtune channels",
    "thumbtune config",
    "thumbtune sql 'select * from pairs limit 2'",
)
"""Tables of the store alone, which are quick to show in the other widths too."""


def commands_of(session: str) -> list[str]:
    blocks = re.findall(rf"```sh session={session}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert blocks
    return [line for block in blocks for line in block.splitlines()]


def in_a_terminal(
    command: str, folder: Path, environment: Mapping[str, str], columns: int = WIDTHS[0]
) -> tuple[int, list[str], str]:
    """Run a command in a pseudo terminal; return its exit code, the lines of its results, and its stderr."""
    program, *arguments = shlex.split(command)
    assert program == "thumbtune"
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "THUMBTUNE_DB")}
    with forked.Popen(
        [*forked.THUMBTUNE, *arguments],
        cwd=folder,
        env={**known, **environment, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        output = b""
        try:
            while piece := os.read(ours, 1 << 16):
                output += piece
        except OSError:  # Linux reports this when the other end is closed
            pass
        os.close(ours)
        assert process.stderr is not None
        said = process.stderr.read().decode()
        code = process.wait()
    return code, output.decode().replace("\r\n", "\n").splitlines(), said


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "channels.txt").write_text("@tests  # ours\n")
    thumbnails = tmp_path / "pairs" / "thumbnails"
    thumbnails.mkdir(parents=True)
    rows = ["id,title,picture"]
    for number in range(24):
        (thumbnails / f"{number}.jpg").write_bytes(jpeg(f"pair{number}", (480, 360)))
        rows.append(f"pair{number:07},Pair number {number} of a table,thumbnails/{number}.jpg")
    (tmp_path / "pairs" / "metadata.csv").write_text("\n".join(rows))
    return tmp_path


def has_a_long_word(line: str, columns: int) -> bool:
    """Whether a line has a word that may not fit in a line, such as the path of a test's folder."""
    return max(map(len, line.split())) > columns // 2


def is_meaning(line: str) -> bool:
    """Whether a line is the summary of a sync or a model."""
    return re.search(r"picks the right title for \d+ of \d+|: (nothing new|\d+ new video)", line) is not None


def check_fits(command: str, lines: list[str], columns: int) -> None:
    """Check that the terminal does not break a table, and that no id, date or URL in it is cut."""
    too_long = [line for line in lines if len(line) > columns and not has_a_long_word(line, columns)]
    assert not too_long, (command, columns, too_long)
    assert not re.search(r"(https?://|UC|\d{4}-|@)\S*…", "\n".join(lines)), (command, columns, lines)


@pytest.mark.parametrize("session", ["creator", "scientist", "operator"])
def test_the_first_hour(session: str, place: Path) -> None:
    shown = channel(0)
    shown.publish(*(video(number) for number in range(24)))
    with StandIn(shown) as server:
        environment = {**server.environment(), "HF_HUB_OFFLINE": "1"}
        for command in commands_of(session):
            code, lines, said = in_a_terminal(command, place, environment)
            assert code == 0, (command, lines, said)
            assert "Traceback" not in said
            check_fits(command, lines, WIDTHS[0])
            if command.split()[1] in SUMMARIES or "runs show" in command:
                assert 1 <= len(lines) <= 15, (command, lines)
                assert is_meaning(lines[0]), (command, lines)
        if session == "scientist":
            for command in TABLES:
                for columns in WIDTHS[1:]:
                    code, lines, said = in_a_terminal(command, place, environment, columns)
                    assert code == 0, (command, lines, said)
                    check_fits(command, lines, columns)
