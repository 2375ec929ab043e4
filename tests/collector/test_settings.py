"""What the environment may say."""

from __future__ import annotations

import pytest

from collector.errors import BadSetting, MissingKey
from collector.settings import API_URL, FEED_URL, settings_from


def test_the_defaults_are_youtubes() -> None:
    settings = settings_from({"YOUTUBE_API_KEY": " key\n"})
    assert (settings.key, settings.api_url, settings.feed_url) == ("key", API_URL, FEED_URL)
    assert settings.thumbnail_hosts == ()
    assert settings.key_fingerprint == "2c70e12b7a06"
    assert "key'" not in repr(settings)


def test_every_address_can_be_moved() -> None:
    settings = settings_from(
        {
            "YOUTUBE_API_KEY": "key",
            "THUMBTUNE_API_URL": "http://localhost:1/youtube/v3/",
            "THUMBTUNE_FEED_URL": "http://localhost:1/feed",
            "THUMBTUNE_THUMBNAIL_HOSTS": " LOCALHOST:1, pictures.example ,,",
        }
    )
    assert settings.api_url == "http://localhost:1/youtube/v3"
    assert settings.thumbnail_hosts == ("localhost:1", "pictures.example")


@pytest.mark.parametrize("value", ["", "  "])
def test_without_a_key_it_says_where_to_get_one(value: str) -> None:
    with pytest.raises(MissingKey, match="YOUTUBE_API_KEY") as error:
        settings_from({"YOUTUBE_API_KEY": value})
    assert error.value.exit_code == 2


def test_a_key_that_can_be_none_is_not_quoted() -> None:
    with pytest.raises(BadSetting) as error:
        settings_from({"YOUTUBE_API_KEY": "secret\nSet-Cookie: x"})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("THUMBTUNE_API_URL", "www.googleapis.com"),
        ("THUMBTUNE_API_URL", "ftp://x/"),
        ("THUMBTUNE_API_URL", "http://x:port/"),
        ("THUMBTUNE_FEED_URL", "http://"),
        ("THUMBTUNE_THUMBNAIL_HOSTS", "http://x/"),
        ("THUMBTUNE_THUMBNAIL_HOSTS", "x:99999"),
        ("THUMBTUNE_THUMBNAIL_HOSTS", "me@x"),
    ],
)
def test_a_value_that_can_not_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        settings_from({"YOUTUBE_API_KEY": "key", name: value})
