"""What the page is told when it starts."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

__all__ = ["Address", "CantServe", "PageSettings", "host_name", "parse_address"]


class CantServe(Exception):
    """The page can't be served as asked. The message has the form `what happened; what to do`."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine gets there."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def is_any(self) -> bool:
        """Whether it stands for all of the machine's addresses."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class PageSettings:
    """How the page is served.

    Args:
        db_url: the store; may hold a password, and is shown nowhere.
        address: where to listen.
        allowed_hosts: names, in addition to the address and `localhost`, that requests may call this server.
        token: what to log in with; None: nobody has to.
        read_only: whether nothing in the store may be changed.
        model: the model to ask, as `--model` has it; None for the one in use.
    """

    db_url: str = field(repr=False)
    address: Address
    allowed_hosts: frozenset[str] = frozenset()
    token: str | None = field(default=None, repr=False)
    read_only: bool = False
    model: str | None = None

    @cached_property
    def hosts(self) -> frozenset[str]:
        """The names that a request's `Host` may have, lower case, without a port."""
        own = set() if self.address.is_any else {self.address.host.lower()}
        return frozenset({*own, "localhost", *(name.lower() for name in self.allowed_hosts)})

    @cached_property
    def cookie(self) -> str:
        """What the cookie of someone who has logged in holds: tells nothing about the token."""
        return hmac.new((self.token or "").encode(), b"thumbtune page", hashlib.sha256).hexdigest()


def parse_address(text: str) -> Address:
    """Read `HOST:PORT` or `[IPv6]:PORT`.

    Raises:
        CantServe: it is neither.
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
    """Return the name in a `Host` header, lower case, without the port; None for what no browser sends."""
    try:
        parts = urlsplit(f"//{header}")
        name, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return name if name and parts.netloc == header and "@" not in header else None
