"""The collector's settings from environment variables: the API key, the API and feed URLs, the thumbnail hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from collector.errors import BadSetting, MissingKey
from store.urls import shown_url

__all__ = ["API_URL", "FEED_URL", "Settings", "settings_from", "thumbnail_hosts_from"]

API_URL = "https://www.googleapis.com/youtube/v3"
FEED_URL = "https://www.youtube.com/feeds/videos.xml"


@dataclass(frozen=True)
class Settings:
    """The API key and the URLs to use. `repr` omits the key.

    Attributes:
        key: the API key.
        api_url: base URL of the YouTube Data API.
        feed_url: URL of the Atom feeds, without the query.
        thumbnail_hosts: `host` or `host:port` entries, allowed in addition to YouTube's thumbnail hosts, also over
            plain http.
    """

    key: str = field(repr=False)
    api_url: str = API_URL
    feed_url: str = FEED_URL
    thumbnail_hosts: tuple[str, ...] = ()

    @property
    def key_fingerprint(self) -> str:
        """The first 12 hex digits of the key's SHA-256, which identify the key without revealing it."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables.

    Raises:
        MissingKey: neither YOUTUBE_API_KEY nor YOUTUBE_API_KEY_FILE is set.
        BadSetting: a variable has an invalid value.
    """
    key = environment.get("YOUTUBE_API_KEY", "").strip() or _key_in_file(environment)
    if not key:
        raise MissingKey("YOUTUBE_API_KEY is not set; create an API key in the Google Cloud console and set it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        # The message omits the value, because it may contain a valid key.
        raise BadSetting("YOUTUBE_API_KEY contains a space or an invalid character; copy the key again")
    return Settings(
        key=key,
        api_url=_url(environment, "THUMBTUNE_API_URL", API_URL).rstrip("/"),
        feed_url=_url(environment, "THUMBTUNE_FEED_URL", FEED_URL),
        thumbnail_hosts=thumbnail_hosts_from(environment),
    )


def _key_in_file(environment: Mapping[str, str]) -> str:
    """The key in the file that YOUTUBE_API_KEY_FILE names, such as a secret of Docker or systemd; else empty."""
    name = environment.get("YOUTUBE_API_KEY_FILE", "")
    if not name:
        return ""
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadSetting(f"YOUTUBE_API_KEY_FILE: {name} can't be read ({reason}); check the file") from error


def thumbnail_hosts_from(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Read THUMBTUNE_THUMBNAIL_HOSTS, see `Settings.thumbnail_hosts`.

    Raises:
        BadSetting: an entry is not a valid host.
    """
    return _hosts(environment.get("THUMBTUNE_THUMBNAIL_HOSTS", ""))


def _url(environment: Mapping[str, str], name: str, default: str) -> str:
    value = environment.get(name, "").strip() or default
    try:
        parts = urlsplit(value)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid:
        raise BadSetting(f"{name} is {shown_url(value)!r}, which is not an http or https URL; correct or unset it")
    return value


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.strip().lower() for host in text.split(",") if host.strip())
    for host in hosts:
        try:
            parts = urlsplit(f"//{host}")
            valid = bool(parts.hostname) and parts.netloc == host and "@" not in host and (parts.port or 1) > 0
        except ValueError:
            valid = False
        if not valid:
            raise BadSetting(
                f"THUMBTUNE_THUMBNAIL_HOSTS contains {host!r}; write host or host:port, separated by commas"
            )
    return hosts
