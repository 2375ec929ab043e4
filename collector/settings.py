"""The collector's settings from environment variables: the API keys, the API and feed URLs, the thumbnail hosts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from collector.errors import BadSetting, MissingKey
from store.urls import shown_file, shown_url

__all__ = ["API_URL", "FEED_URL", "Settings", "settings_from", "thumbnail_hosts_from"]

API_URL = "https://www.googleapis.com/youtube/v3"
FEED_URL = "https://www.youtube.com/feeds/videos.xml"

_CHANNEL_ID = re.compile(r"UC[0-9A-Za-z_-]{22}")


@dataclass(frozen=True)
class Settings:
    """The API keys and the URLs to use. `repr` omits the keys.

    Attributes:
        key: the API key of every channel that is not in `keys`; empty if there is none.
        api_url: base URL of the YouTube Data API.
        feed_url: URL of the Atom feeds, without the query.
        thumbnail_hosts: `host` or `host:port` entries, allowed in addition to YouTube's thumbnail hosts, also over
            plain http.
        keys: {channel id: its owner's API key}. A channel in it is never read with another key, because quota must not
            be spread over projects.
    """

    key: str = field(repr=False)
    api_url: str = API_URL
    feed_url: str = FEED_URL
    thumbnail_hosts: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def key_fingerprint(self) -> str:
        """The first 12 hex digits of the key's SHA-256, which identify the key without revealing it."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]

    def of_channel(self, channel_id: str | None) -> Settings:
        """Return the settings with the key of one channel's owner.

        Args:
            channel_id: the channel; None if its id is unknown.

        Raises:
            MissingKey: the channel has no key, or its id is unknown although owners have keys of their own.
        """
        if not self.keys:
            return self
        if channel_id is None:
            raise MissingKey(
                "the store does not have this channel yet, so its key in YOUTUBE_API_KEYS_FILE can't be chosen; "
                "name the channel by its id (UC...)"
            )
        key = self.keys.get(channel_id, self.key)
        if not key:
            raise MissingKey(
                f"{channel_id} is not in YOUTUBE_API_KEYS_FILE, and YOUTUBE_API_KEY is not set; add the channel and "
                "its owner's key to the file"
            )
        return replace(self, key=key, keys={})


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables.

    Raises:
        MissingKey: none of YOUTUBE_API_KEY, YOUTUBE_API_KEY_FILE and YOUTUBE_API_KEYS_FILE is set.
        BadSetting: a variable or a file of keys has an invalid value.
    """
    key = environment.get("YOUTUBE_API_KEY", "").strip() or _text_in(environment, "YOUTUBE_API_KEY_FILE").strip()
    keys = _keys_in(_text_in(environment, "YOUTUBE_API_KEYS_FILE"))
    if not key and not keys:
        raise MissingKey(
            "YOUTUBE_API_KEY is not set; create an API key in the Google Cloud console and set it, or use "
            "'thumbtune import', which needs no key"
        )
    if key and not _is_key(key):
        # The message omits the value, because it may contain a valid key.
        where = "YOUTUBE_API_KEY" if environment.get("YOUTUBE_API_KEY", "").strip() else "YOUTUBE_API_KEY_FILE"
        raise BadSetting(f"{where} contains a space or an invalid character; copy the key again")
    return Settings(
        key=key,
        api_url=_url(environment, "THUMBTUNE_API_URL", API_URL).rstrip("/"),
        feed_url=_url(environment, "THUMBTUNE_FEED_URL", FEED_URL),
        thumbnail_hosts=thumbnail_hosts_from(environment),
        keys=keys,
    )


def _is_key(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _keys_in(text: str) -> dict[str, str]:
    """Parse lines of a channel id, white space, and a key; `#` starts a comment. Messages never contain a key."""
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = re.split(r"(?:^|\s)#", line)[0].split()
        if not words:
            continue
        where = f"YOUTUBE_API_KEYS_FILE, line {number}"
        if len(words) != 2 or not _is_key(words[1]):
            raise BadSetting(f"{where}: write a channel's id, a space, and its owner's key")
        if not _CHANNEL_ID.fullmatch(words[0]):
            raise BadSetting(f"{where}: name the channel by its id (UC...), because a handle can move to another owner")
        if keys.setdefault(words[0], words[1]) != words[1]:
            raise BadSetting(f"{where}: {words[0]} has two keys; a channel has the key of its owner only")
    return keys


def _text_in(environment: Mapping[str, str], variable: str) -> str:
    """The text of the file that a variable names, such as a secret of Docker or systemd; else empty."""
    name = environment.get(variable, "")
    if not name:
        return ""
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BadSetting(f"{variable}: {shown_file(name)} can't be read ({reason}); check the file") from error
    if not text.strip():
        raise BadSetting(f"{variable}: {name} is empty; write the API key to it")
    return text


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
                f"THUMBTUNE_THUMBNAIL_HOSTS contains {shown_url(host)!r}; write host or host:port, separated by commas"
            )
    return hosts
