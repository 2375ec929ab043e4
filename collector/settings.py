"""What the collector reads from its environment: the key, and where to find the API, the feed and the pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from collector.errors import BadSetting, MissingKey

__all__ = ["API_URL", "FEED_URL", "Settings", "settings_from", "thumbnail_hosts_from"]

API_URL = "https://www.googleapis.com/youtube/v3"
FEED_URL = "https://www.youtube.com/feeds/videos.xml"


@dataclass(frozen=True)
class Settings:
    """Where to ask, and with which key. The key is in no `repr`.

    `thumbnail_hosts`: `host` or `host:port`, allowed in addition to YouTube's own picture hosts, and by plain http too.
    """

    key: str = field(repr=False)
    api_url: str = API_URL
    feed_url: str = FEED_URL
    thumbnail_hosts: tuple[str, ...] = ()

    @property
    def key_fingerprint(self) -> str:
        """The first 12 hex digits of the key's SHA-256: tells keys apart, gives none away."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables.

    Raises:
        MissingKey: neither YOUTUBE_API_KEY nor YOUTUBE_API_KEY_FILE is set.
        BadSetting: a value that can't be used.
    """
    key = environment.get("YOUTUBE_API_KEY", "").strip() or _key_in_file(environment)
    if not key:
        raise MissingKey("there is no API key; make one in the Google Cloud console and set YOUTUBE_API_KEY to it")
    if not (key.isascii() and key.isprintable()) or " " in key:
        # Not quoted back: it may be a key with something pasted to it.
        raise BadSetting("YOUTUBE_API_KEY holds a space or a character no key has; copy the key again")
    return Settings(
        key=key,
        api_url=_url(environment, "THUMBTUNE_API_URL", API_URL).rstrip("/"),
        feed_url=_url(environment, "THUMBTUNE_FEED_URL", FEED_URL),
        thumbnail_hosts=thumbnail_hosts_from(environment),
    )


def _key_in_file(environment: Mapping[str, str]) -> str:
    """The key in the file that YOUTUBE_API_KEY_FILE names: a secret of Docker or systemd. Empty without one."""
    name = environment.get("YOUTUBE_API_KEY_FILE", "")
    if not name:
        return ""
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise BadSetting(f"YOUTUBE_API_KEY_FILE: {name} can't be read ({reason}); check the file") from error


def thumbnail_hosts_from(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The picture hosts that are allowed in addition to YouTube's: see `Settings`.

    Raises:
        BadSetting: one of them is no host.
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
        raise BadSetting(f"{name} is {value!r}, which is no http or https address; correct or unset it")
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
            raise BadSetting(f"THUMBTUNE_THUMBNAIL_HOSTS names {host!r}; write host or host:port, separated by commas")
    return hosts
