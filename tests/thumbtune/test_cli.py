"""The command line as a process: exit codes, one error line, no large libraries imported."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from store.db import open_database
from thumbtune.cli import COMMANDS, TRAINING_STACK

pytestmark = pytest.mark.processes


def thumbtune(
    *arguments: str, cwd: Path, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command in a folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "thumbtune", *arguments],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_names_every_command_and_imports_nothing_heavy(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "thumbtune", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(f"  {name} " in result.stdout for name in COMMANDS)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "click" in imported
    assert not imported & {"torch", "sentence_transformers", "pandas", "numpy", "aiohttp", "sqlalchemy", "rich", "PIL"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_a_help_text(tmp_path: Path, name: str) -> None:
    result = thumbtune(name, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"Usage: thumbtune {name}" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("group", ["runs", "db"])
def test_group_help_truncates_no_sentence(tmp_path: Path, group: str) -> None:
    listed = thumbtune(group, "--help", cwd=tmp_path, COLUMNS="80").stdout.partition("Commands:\n")[2]
    assert listed.count("\n") > 3
    assert "..." not in listed


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nonsense"], 2, "error: No such command 'nonsense'."),
        (["syn", "@one"], 2, "error: No such command 'syn'. Did you mean 'sync'?"),
        (["runs", "--debug-all"], 2, "error: No such option '--debug-all'"),
        (["runs", "show", "-q", "1"], 2, "error: No such option '-q'. This is a global option"),
        (["sync", "--ful"], 2, "error: No such option '--ful'. Did you mean '--full'?"),
        (["-q", "-v", "db", "check"], 2, "error: -q and -v exclude each other; give one of them."),
        (["--db", "what", "db", "upgrade"], 2, "error: 'what' is not a database URL; write sqlite:///FILE or"),
        (["db", "check"], 1, "error: there is no store at thumbtune.db; run 'thumbtune sync CHANNEL' first"),
        (["sql", "select 1"], 1, "error: there is no store at thumbtune.db;"),
        (["db", "backup"], 2, "error: Missing argument 'FILE|DIR'."),
        (["db", "backup", ""], 2, "error: FILE|DIR is empty;"),
        (["import", ""], 2, "error: SOURCE is empty;"),
        (["--db", f"sqlite:///{'x' * 300}", "db", "check"], 1, f"error: the file name {'x' * 60}... is too long;"),
    ],
)
def test_usage_errors_are_one_line_with_an_exit_code(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    result = thumbtune(*arguments, cwd=tmp_path)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.returncode, len(errors)) == (code, 1), result.stderr
    assert errors[0].startswith(says)
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = thumbtune("--debug", "db", "check", cwd=tmp_path)
    assert "Traceback" in result.stderr
    assert "DatabaseUnavailable" in result.stderr


def test_the_environment_variable_names_the_store(tmp_path: Path) -> None:
    result = thumbtune("db", "upgrade", "--json", cwd=tmp_path, THUMBTUNE_DB=f"sqlite:///{tmp_path}/other.db")
    assert json.loads(result.stdout)["store"] == f"sqlite:///{tmp_path}/other.db"
    assert (tmp_path / "other.db").exists()


def test_a_store_is_made_checked_backed_up_and_queried(tmp_path: Path) -> None:
    assert thumbtune("db", "upgrade", cwd=tmp_path).returncode == 0
    sound = thumbtune("db", "check", "--json", cwd=tmp_path)
    assert json.loads(sound.stdout)["sound"] is True
    assert thumbtune("db", "backup", "copy.db", cwd=tmp_path).returncode == 0
    query = "SELECT 'a,b' AS text, x'00ff' AS raw, NULL AS absent"
    assert json.loads(thumbtune("sql", query, "--json", cwd=tmp_path).stdout) == [
        {"text": "a,b", "raw": "<2 bytes>", "absent": None}
    ]
    assert thumbtune("sql", query, "--csv", cwd=tmp_path).stdout == 'text,raw,absent\n"a,b",<2 bytes>,\n'
    assert thumbtune("--db", "sqlite:///copy.db", "sql", query, cwd=tmp_path).stdout.splitlines() == [
        "text  raw        absent",
        "a,b   <2 bytes>  -",
    ]
    twice = thumbtune("sql", "SELECT 1 AS a, 2 AS a", "--json", cwd=tmp_path)
    assert (twice.returncode, twice.stdout) == (2, "")
    assert "error: --json needs different column names, but 'a'" in twice.stderr
    refused = thumbtune("sql", "DELETE FROM video", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: the query failed (attempt to write a readonly database)")


def test_a_query_may_begin_with_a_comment_or_come_from_stdin(tmp_path: Path) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    query = "-- How many?\nSELECT count(*) AS n FROM video;\n"
    for arguments in (["sql", query, "--csv"], ["sql", "--csv", query], ["sql", "--csv", "--", query]):
        result = thumbtune(*arguments, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (0, "n\n0\n"), result.stderr
    assert thumbtune("sql", "-", "--csv", cwd=tmp_path, stdin=query).stdout == "n\n0\n"
    assert "No such option '--cvs'" in thumbtune("sql", "--cvs", query, cwd=tmp_path).stderr


def test_an_argument_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    result = thumbtune("sql", "SELECT 'caf\udce9'", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: \"SELECT 'caf\\udce9'\" is not UTF-8 text; use a UTF-8 terminal"
    backup = thumbtune("db", "backup", "caf\udce9.db", cwd=tmp_path)  # file names may be any bytes
    assert (backup.returncode, (tmp_path / "caf\udce9.db").exists()) == (0, True), backup.stderr


def test_a_damaged_store_fails_the_check(tmp_path: Path) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    with sqlite3.connect(tmp_path / "thumbtune.db") as plain:
        plain.execute("ALTER TABLE quota_day DROP COLUMN units")
    plain.close()
    result = thumbtune("db", "check", cwd=tmp_path)
    assert result.returncode == 1
    assert "schema: 1 problem\n" in result.stdout


def test_a_closed_output_pipe_is_not_an_error(tmp_path: Path) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT i FROM n"
    command = f"{sys.executable} -m thumbtune sql '{many}' --csv | head -n 2"
    result = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("i\n1\n", "")


def test_closed_streams_are_no_error_and_no_store(tmp_path: Path) -> None:
    """The first file that a process opens gets the number of a closed stream: without care, the store itself."""
    store = tmp_path / "store.db"
    open_database(f"sqlite:///{store}").close()
    command = f"{sys.executable} -m thumbtune --db {store}"
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        subprocess.run(["/bin/sh", "-c", f"{command} -vv channels {closed}"], check=True, capture_output=True)
    done = subprocess.run(["/bin/sh", "-c", f"{command} nothing 2>&-"], capture_output=True, check=False)
    assert done.returncode == 2
    assert subprocess.run([*command.split(), "db", "check"], capture_output=True, check=False).returncode == 0


def test_a_working_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    command = f"cd {folder} && rmdir {folder} && {sys.executable} -m thumbtune channels"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert "working folder no longer exists" in done.stderr.splitlines()[-1]


def test_every_missing_package_of_the_training_stack_is_recognised() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())["project"]
    wanted = {re.split("[^a-z-]", line)[0] for line in project["optional-dependencies"]["train"]}
    imported_as = {"faiss-cpu": "faiss", "protobuf": "google"}
    assert {imported_as.get(name, name.replace("-", "_")) for name in wanted} == TRAINING_STACK


@pytest.mark.parametrize("arguments", [[], ["db"]])
def test_without_a_command_the_help_is_shown(tmp_path: Path, arguments: list[str]) -> None:
    result = thumbtune(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Commands:\n" in result.stderr
    assert "error:" not in result.stderr


def test_json_columns_read_the_same_on_both_databases(tmp_path: Path, migrated_postgres_url: str) -> None:
    query = "SELECT '{\"lr\": 0.0001}'::jsonb AS settings"
    result = thumbtune("--db", migrated_postgres_url, "sql", query, cwd=tmp_path)
    assert result.stdout.splitlines() == ["settings", '{"lr": 0.0001}']
    listed = thumbtune("--db", migrated_postgres_url, "sql", query, "--json", cwd=tmp_path)
    assert json.loads(listed.stdout) == [{"settings": {"lr": 0.0001}}]


def test_exact_numbers_and_intervals_of_postgres_are_valid_json(tmp_path: Path, migrated_postgres_url: str) -> None:
    values = {
        "avg(n)": 1.5,
        "sum(n)": 3,
        "array_agg(n)": [1, 2],
        "max('1 day'::interval)": "1 day, 0:00:00",
        "'NaN'::float": None,
        "'NaN'::numeric": None,
        "min('10:00'::time)": "10:00:00",
    }
    columns = ", ".join(f"{value} AS c{number}" for number, value in enumerate(values))
    query = f"SELECT {columns} FROM (VALUES (1::numeric), (2)) AS t (n)"
    listed = thumbtune("--db", migrated_postgres_url, "sql", query, "--json", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert list(json.loads(listed.stdout)[0].values()) == list(values.values())


def test_json_has_no_infinity(tmp_path: Path) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    listed = thumbtune("sql", "SELECT 9e999 AS x", "--json", cwd=tmp_path)
    assert "Infinity" not in listed.stdout
    assert json.loads(listed.stdout) == [{"x": None}]


def test_json_may_be_asked_for_before_the_command_of_a_group(tmp_path: Path) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    assert json.loads(thumbtune("channels", "--json", "list", cwd=tmp_path).stdout) == {"channels": []}
    assert json.loads(thumbtune("runs", "--json", "champions", cwd=tmp_path).stdout) == {"champions": []}


@pytest.mark.parametrize("url", ["https://www.youtube.com/@nobody/videos", "youtube.com/@nobody"])
def test_a_channel_may_be_named_by_its_url(tmp_path: Path, url: str) -> None:
    thumbtune("db", "upgrade", cwd=tmp_path)
    for command in (["search", "red"], ["export", "dataset", "out"], ["runs", "promote", "1"]):
        done = thumbtune(*command, "--channel", url, cwd=tmp_path)
        assert done.returncode == 2
        assert "error: channel '@nobody' is not in the store" in done.stderr
