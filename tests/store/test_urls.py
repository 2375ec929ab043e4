"""No message contains the password of a URL, however the URL is invalid."""

from __future__ import annotations

import os

import pytest

from store.db import open_database, rows_as_dicts
from store.errors import BadDatabaseUrl, StoreError
from store.urls import shown_url
from tests import forked

SECRET = "s3cret"
WRONG = [
    "postgresql://u:{}@127.0.0.1:abc/x",
    "postgresql://u:{}@127.0.0.1:99999/x",
    "postgresql://u:{}@127.0.0.1:1/x",
    "postgresql://u:a@{}@127.0.0.1:1/x",
    "postgresql://u:a/{}@127.0.0.1:1/x",
    "postgresql://u:{}?@127.0.0.1:1/x",
    "postgresql://u@127.0.0.1:1/x?password={}",
    "postgresql://u@127.0.0.1:1/x?pasword={}",
    "postgresql://u@127.0.0.1:1/x?sslkey=/none&sslpassword={}",
    "postgresql:///x?host=/none&password={}",
    "postgres//u:{}@127.0.0.1/x",
    "u:{}@127.0.0.1/x",
    "host=127.0.0.1 port=1 password={}",
    "mysql://u:{}@127.0.0.1/x",
    "sqlite://u:{}@/x",
    "postgresql://u:{}/x",
    "user=u pwd={}",
    "postgresql://127.0.0.1:1/x?user=u:{}",
    "postgresql://127.0.0.1:1/x?options=-capp.password%3D{}",
    "postgresql://127.0.0.1:1/x?host=h;password={}",
]


@pytest.mark.parametrize("url", WRONG)
def test_errors_about_a_database_url_contain_no_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_database(url.format(SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [WRONG[0], WRONG[3], WRONG[10]])
def test_an_invalid_url_is_a_usage_error(url: str) -> None:
    with pytest.raises(BadDatabaseUrl):
        open_database(url.format(SECRET))


def test_the_harmless_parts_of_a_url_are_shown() -> None:
    shown = shown_url("postgresql://ada:s3cret@db.example:5433/thumbs?sslmode=require&connect_timeout=5&token=s3cret")
    assert shown == "postgresql://ada:***@db.example:5433/thumbs?sslmode=require&connect_timeout=5&token=***"
    assert shown_url("sqlite:////var/lib/thumbtune.db") == "sqlite:////var/lib/thumbtune.db"


@pytest.mark.processes
@pytest.mark.parametrize(
    "url", ["http://u:s3cret@127.0.0.1:1/youtube/v3", "http://u:s3cret@127.0.0.1:abc/", "ftp://u:s3cret@127.0.0.1/"]
)
def test_the_apis_url_is_logged_without_its_password(url: str, sqlite_url: str) -> None:
    environment = {**os.environ, "YOUTUBE_API_KEY": "k", "THUMBTUNE_API_URL": url, "THUMBTUNE_DB": sqlite_url}
    done = forked.run(
        [*forked.THUMBTUNE, "-vv", "sync", "@abc"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert "127.0.0.1" in done.stderr
    assert SECRET not in done.stderr + done.stdout


def test_options_of_the_url_are_applied(postgres_url: str) -> None:
    joined = "&" if "?" in postgres_url else "?"
    with open_database(f"{postgres_url}{joined}options=-c%20work_mem%3D5MB") as database, database.read() as session:
        found = {name: rows_as_dicts(session, f"SHOW {name}") for name in ("work_mem", "timezone", "lock_timeout")}
    assert found["work_mem"] == [{"work_mem": "5MB"}]
    assert next(iter(found["timezone"][0].values())).upper() == "UTC"
    assert [*found["lock_timeout"][0].values()] == ["1min"]
