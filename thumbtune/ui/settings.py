"""The settings with which the page is served."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from urllib.parse import urlsplit

from collector.http import Listen

__all__ = ["CantServe", "PageSettings", "host_name"]


class CantServe(Exception):
    """The page can't be served with these settings. The message has the form `what happened; what to do`."""

    exit_code = 2


@dataclass(frozen=True)
class PageSettings:
    """The settings of the page.

    Args:
        db_url: the store's URL; may contain a password, and is never shown.
        address: the address to listen on.
        allowed_hosts: host names accepted in requests, in addition to the address and `localhost`.
        token: the token for the login; None: no login is required.
        read_only: whether changes to the store are refused.
        model: the model to ask, as in `--model`; None for the model in use.
        every: the interval between syncs of `thumbtune watch`.
        units: the API units that `thumbtune watch` may spend per day.
    """

    db_url: str = field(repr=False)
    address: Listen
    allowed_hosts: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    read_only: bool = False
    model: str | None = None
    every: timedelta = timedelta(hours=6)
    units: int = 9000

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The accepted names in a request's `Host`, in lower case, without a port."""
        own = set() if self.address.is_any else {self.address.host.lower()}
        return frozenset({*own, "localhost", *(name.lower() for name in self.allowed_hosts)})

    @cached_property
    def cookie(self) -> str:
        """The value of the login cookie, from which the token can't be derived."""
        return hmac.new((self.token or "").encode(), b"thumbtune page", hashlib.sha256).hexdigest()


def host_name(header: str) -> str | None:
    """Return the name in a `Host` header, in lower case, without the port; None if it is invalid."""
    try:
        parts = urlsplit(f"//{header}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return name if name and parts.netloc == header and "@" not in header else None
