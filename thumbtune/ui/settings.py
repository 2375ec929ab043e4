"""The settings with which the page is served."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

__all__ = ["Address", "CantServe", "PageSettings", "host_name", "parse_address"]


class CantServe(Exception):
    """The page can't be served with these settings. The message has the form `what happened; what to do`."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Address:
    """The address to listen on; port 0 selects a free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def is_any(self) -> bool:
        """Whether the address stands for all of the machine's addresses."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


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
    """

    db_url: str = field(repr=False)
    address: Address
    allowed_hosts: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    read_only: bool = False
    model: str | None = None

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The accepted names in a request's `Host`, in lower case, without a port."""
        own = set() if self.address.is_any else {self.address.host.lower()}
        return frozenset({*own, "localhost", *(name.lower() for name in self.allowed_hosts)})

    @cached_property
    def cookie(self) -> str:
        """The value of the login cookie, from which the token can't be derived."""
        return hmac.new((self.token or "").encode(), b"thumbtune page", hashlib.sha256).hexdigest()


def parse_address(text: str) -> Address:
    """Parse `HOST:PORT` or `[IPv6]:PORT`.

    Raises:
        CantServe: the text has neither form.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
        whole = parts.netloc == text and "@" not in text
    except ValueError:
        host, port, whole = None, None, False
    if not host or port is None or not whole or any(char.isspace() for char in text):
        raise CantServe(f"{text!r} is not an address to listen on; write HOST:PORT, as in 127.0.0.1:8460")
    return Address(host, port)


def host_name(header: str) -> str | None:
    """Return the name in a `Host` header, in lower case, without the port; None if it is invalid."""
    try:
        parts = urlsplit(f"//{header}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return name if name and parts.netloc == header and "@" not in header else None
