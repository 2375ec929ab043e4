"""A secret in any place where a user may type it, right or wrong, is shown by no command."""

from __future__ import annotations

import os
import random
import re
import shutil
from pathlib import Path

import pytest

from store.db import open_database
from store.db.places import open_place
from store.errors import BadPicturesUrl, StoreError, panics_as_errors
from store.urls import shown_message, shown_text, shown_url
from tests import forked

SECRET = "hunter2Secret"
PARAMETERS = (
    *("application_name", "channel_binding", "client_encoding", "connect_timeout", "gssencmode", "hostaddr"),
    *(
        "keepalives",
        "keepalives_idle",
        "krbsrvname",
        "load_balance_hosts",
        "options",
        "passfile",
        "password",
        "pasword",
    ),
    *("port", "require_auth", "service", "ssl_max_protocol_version", "ssl_min_protocol_version", "sslcert", "sslkey"),
    *("sslmode", "sslpassword", "sslrootcert", "target_session_attrs", "tcp_user_timeout", "token"),
)
"""Parameters of a PostgreSQL URL in whose values nobody needs to see what is not a valid value."""

DATABASES = [
    *(f"postgresql://u@127.0.0.1:1/x?{name}={{}}" for name in PARAMETERS),
    *(f"postgresql://127.0.0.1:1/x?user=u&{name}=a%20{{}}" for name in PARAMETERS),
    "postgresql://u%20{}@127.0.0.1:1/x",
    "postgresql://u {}:p@127.0.0.1:1/x",
    "postgresql://u/{}@127.0.0.1:1/x",
    "postgresql://u@127.0.0.1:1/x;password={}",
    "postgresql://u@127.0.0.1:1/x password={}",
    "postgresql://u@127.0.0.1:1/x#{}",
    "postgresql://u@127.0.0.1:1/x?user=u:{}",
    "postgresql://u@h:{}",
    "postgresql://u:{}@[::1/x",
    "postgresql://u:\ud800{}@127.0.0.1:1/x",
    "mysql://u:{}@127.0.0.1/x",
    "mysql://127.0.0.1/x?password={}",
    "sqlite:///u:{}@127.0.0.1/x",
    "sqlite:////u:{}@127.0.0.1/x",
    "sqlite:///x.db?password={}",
    "sqlite://u:{}@/x",
    "u:{}@127.0.0.1/x",
    "u@127.0.0.1:{}",
    "service={}",
    "host=127.0.0.1 user=u password = '{}'",
    "postgresql//u:{}@h",
    "postgresql:/u:{}@h",
]


@pytest.mark.parametrize("url", DATABASES)
def test_errors_about_a_database_url_contain_no_secret(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_database(url.replace("{}", SECRET), create=False)
    assert SECRET not in str(caught.value)


def test_no_part_of_a_shown_url_contains_a_password() -> None:
    """In random URLs of separator characters, no text between a colon and an `@` is shown."""
    dice = random.Random(0)
    marks = ("", ":", "/", "?", "#", "@", "%", "&", "=", "[", "]", ";", " ", "'", '"', "a", "5432", "host", "\\", "é")
    for _ in range(20_000):
        password = "".join(dice.choices(marks, k=3)) + SECRET + "".join(dice.choices(marks, k=3))
        scheme = dice.choice(("postgresql://", "postgres://", "http://", "sqlite:///", "mysql://", ""))
        url = f"{scheme}{dice.choice(('u', ''))}:{password}@{dice.choice(('h', 'h:1', '[::1]'))}/x"
        assert SECRET not in shown_url(url), url
        if scheme.startswith(("p", "h")):
            assert SECRET not in shown_message(f'invalid value: "{password}", see {url}', url), url


def test_gaps_in_a_message_do_not_reveal_hidden_values() -> None:
    message = 'connection to server at "127.0.0.1" failed: FATAL: role "u" does not exist'
    assert shown_message(message, "postgresql://u:server@127.0.0.1/x?token=role") == message


def test_harmless_links_in_a_text_are_kept() -> None:
    text = "see http://127.0.0.1:8460/@handle and https://example.com/a?b=c@d, not ftp://u:p@h/x"
    assert shown_text(text) == text.replace("u:p@", "***@")


@pytest.mark.parametrize(
    "endpoint", ["u:{}@h", "http://u:{}@[::1", "http://u:{}@h:x", "http://u:{}@a b", "http://u:{}@é"]
)
def test_an_invalid_endpoint_is_refused_without_its_password(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.replace("{}", SECRET))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with pytest.raises(BadPicturesUrl) as caught:
        open_place("s3://bucket/of-tests")
    assert SECRET not in str(caught.value)


def test_a_panic_of_a_library_is_an_error() -> None:
    """PyO3's PanicException, which the object store's and the tokenizers' libraries raise, is a BaseException."""
    panic = type("PanicException", (BaseException,), {})
    with pytest.raises(RuntimeError, match="called `Option"), panics_as_errors():
        raise panic("called `Option::unwrap()` on a `None` value")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


URL = f"http://u:{SECRET}@127.0.0.1:1"
ENVIRONMENTS: dict[str, dict[str, str]] = {
    "a key with a space": {"YOUTUBE_API_KEY": f"{SECRET} x"},
    "the API with a password": {"THUMBTUNE_API_URL": URL},
    "the API with a bad port": {"THUMBTUNE_API_URL": f"http://u:{SECRET}@h:x"},
    "the API without a scheme": {"THUMBTUNE_API_URL": f"u:{SECRET}@127.0.0.1"},
    "the feed": {"THUMBTUNE_FEED_URL": f"ftp://u:{SECRET}@h"},
    "hosts": {"THUMBTUNE_THUMBNAIL_HOSTS": f"u:{SECRET}@h"},
    "a proxy": {"HTTP_PROXY": URL, "THUMBTUNE_API_URL": "http://example.com"},
    "a wrong proxy": {"HTTP_PROXY": f"u:{SECRET}@h:x", "THUMBTUNE_API_URL": "http://example.com"},
    "a key for a file": {"YOUTUBE_API_KEY": "", "YOUTUBE_API_KEY_FILE": SECRET},
    "a key for a file of keys": {"YOUTUBE_API_KEYS_FILE": SECRET},
    "a URL for a file": {"THUMBTUNE_DB": "", "THUMBTUNE_DB_FILE": f"postgresql://u:{SECRET}@h/x"},
    "pictures": {"THUMBTUNE_PICTURES": f"s3://u:{SECRET}@b/x"},
    "pictures without a scheme": {"THUMBTUNE_PICTURES": f"u:{SECRET}@b/x"},
    "a store": {"THUMBTUNE_DB": f"postgresql://u:{SECRET}@127.0.0.1:1/x?sslmode={SECRET}"},
    "a token of the hub": {"HF_TOKEN": SECRET, "HF_ENDPOINT": URL},
}
COMMANDS = [["sync", "@abc"], ["-vv", "--debug", "sync", "@abc"]]
NAMES = [
    *(["--db", f"postgresql://u:{SECRET}@127.0.0.1:1/x", *command] for command in (["channels"], ["db", "check"])),
    *(
        ["--debug", "--db", f"postgresql://u@127.0.0.1:1/x?{name}={SECRET}", "channels"]
        for name in ("sslmode", "service")
    ),
    ["--debug", f"--db=postgresql://u%20{SECRET}@127.0.0.1:1/x", "channels"],
    ["--debug", "--db", f"u:{SECRET}@127.0.0.1", "channels"],
    ["db", "copy", f"postgresql://u:{SECRET}@127.0.0.1:1/x"],
    ["db", "copy", f"u:{SECRET}@127.0.0.1"],
    ["db", "backup", f"postgresql://u:{SECRET}@127.0.0.1:1/x"],
    ["--db", f"postgresql://u:{SECRET}@127.0.0.1:x/x", "db", "restore", "."],
    ["db", "move-pictures", f"s3://u:{SECRET}@b/x"],
    ["import", f"postgresql://u:{SECRET}@127.0.0.1:1/x"],
    ["sync", f"https://u:{SECRET}@example.com/@abc"],
    ["search", "red", "--model", f"https://u:{SECRET}@example.com/model"],
    ["match", f"https://u:{SECRET}@example.com/x.png", "a title"],
    ["export", "dataset", f"s3://u:{SECRET}@b/x"],
]


def _said(folder: Path, command: list[str], environment: dict[str, str]) -> str:
    plain = {name: value for name, value in os.environ.items() if not re.match(r"(?i)https?_proxy|HF_|YOUTUBE", name)}
    own = {"YOUTUBE_API_KEY": SECRET, "THUMBTUNE_API_URL": "ftp://h", "THUMBTUNE_DB": "x.db"}
    done = forked.run(
        [*forked.THUMBTUNE, *command],
        cwd=folder,
        env={**plain, **own, "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        timeout=120,
        text=True,
    )
    return f"{done.stdout}{done.stderr}"


@pytest.mark.processes
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_command_shows_a_secret_of_its_environment(name: str, migrated_file: Path, tmp_path: Path) -> None:
    shutil.copy(migrated_file, tmp_path / "x.db")
    for command in COMMANDS:
        said = _said(tmp_path, command, ENVIRONMENTS[name])
        assert said
        assert SECRET not in said, command


@pytest.mark.processes
def test_config_shows_no_secrets(tmp_path: Path) -> None:
    together = {name: value for environment in ENVIRONMENTS.values() for name, value in environment.items()}
    for database in ({"THUMBTUNE_DB_FILE": ""}, {"THUMBTUNE_DB": f"u:{SECRET}@h", "THUMBTUNE_DB_FILE": SECRET}):
        said = _said(tmp_path, ["config", "--json"], {**together, "YOUTUBE_API_KEY": SECRET, **database})
        assert '"(set)"' in said
        assert SECRET not in said


@pytest.mark.processes
@pytest.mark.parametrize("command", NAMES, ids=" ".join)
def test_no_command_shows_a_password_in_its_arguments(command: list[str], migrated_file: Path, tmp_path: Path) -> None:
    shutil.copy(migrated_file, tmp_path / "x.db")
    said = _said(tmp_path, command, {})
    assert said
    assert SECRET not in said
