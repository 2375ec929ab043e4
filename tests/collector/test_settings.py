"""Settings from environment variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.errors import BadSetting, MissingKey
from collector.settings import API_URL, FEED_URL, settings_from


def test_the_defaults_are_the_urls_of_youtube() -> None:
    settings = settings_from({"YOUTUBE_API_KEY": " key\n"})
    assert (settings.key, settings.api_url, settings.feed_url) == ("key", API_URL, FEED_URL)
    assert settings.thumbnail_hosts == ()
    assert settings.key_fingerprint == "2c70e12b7a06"
    assert "key'" not in repr(settings)


def test_every_url_can_be_changed() -> None:
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
def test_a_missing_key_is_an_error_that_says_where_to_get_one(value: str) -> None:
    with pytest.raises(MissingKey, match="YOUTUBE_API_KEY") as error:
        settings_from({"YOUTUBE_API_KEY": value})
    assert error.value.exit_code == 2


def test_an_invalid_key_is_not_quoted() -> None:
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
def test_an_invalid_value_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name):
        settings_from({"YOUTUBE_API_KEY": "key", name: value})


ONE, OTHER = "UC" + 22 * "1", "UC" + 22 * "2"


def test_each_owner_has_a_key_and_others_have_the_default(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# owners\n{ONE}  first # a client\n\n{OTHER}\tsecond\n{ONE} first\n")
    settings = settings_from({"YOUTUBE_API_KEYS_FILE": str(file)})
    assert [settings.of_channel(channel).key for channel in (ONE, OTHER)] == ["first", "second"]
    assert "first" not in repr(settings) + str(settings)
    assert settings.of_channel(ONE).keys == {}
    with pytest.raises(MissingKey):
        settings.of_channel("UC" + 22 * "3")
    with_default = settings_from({"YOUTUBE_API_KEYS_FILE": str(file), "YOUTUBE_API_KEY": "default"})
    assert with_default.of_channel("UC" + 22 * "3").key == "default"
    with pytest.raises(MissingKey):
        with_default.of_channel(None)  # it may be the channel of any owner
    assert settings_from({"YOUTUBE_API_KEY": "default"}).of_channel(None).key == "default"


@pytest.mark.parametrize(
    "text",
    ["@handle SECRET", f"{ONE}", f"{ONE} SECRET more", f"{ONE} SECRET\n{ONE} SECRET2", f"{ONE} SECRETé", "\udcff"],
)
def test_an_invalid_key_file_is_refused_without_quoting_a_key(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadSetting, match="YOUTUBE_API_KEYS_FILE") as error:
        settings_from({"YOUTUBE_API_KEY": "default", "YOUTUBE_API_KEYS_FILE": str(file)})
    assert "SECRET" not in str(error.value)
