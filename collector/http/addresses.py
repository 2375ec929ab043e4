"""Which network addresses a stranger's link may lead to: public ones only.

A link names a host, and whoever runs that name's DNS decides where it leads, anew at each look-up. So the address is
judged where it is looked up for a connection, and the connection goes to just what was judged.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

__all__ = ["NotPublic", "PublicOnly", "is_public"]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits."""


class NotPublic(OSError):
    """A name leads to no public address. An OSError, as aiohttp expects of a resolver."""


def is_public(address: str) -> bool:
    """Whether an IP address is a public unicast one: not private, loopback, link-local, multicast or reserved.

    An IPv6 address that stands for an IPv4 one (mapped, 6to4, Teredo, NAT64) is as public as that.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in _NAT64:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        embedded = [str(one) for one in inner if one is not None]
        if embedded:
            return all(is_public(one) for one in embedded)
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


class PublicOnly(AbstractResolver):
    """Looks names up and gives back their public addresses only.

    The hosts of the proxies that the environment names are the user's own choice, and may be anywhere. (Behind a proxy
    it is the proxy that looks names up; what it connects to is its own affair.)

    Args:
        resolver: who looks names up, left open at the end; by default the system.
    """

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver: AbstractResolver = resolver or DefaultResolver()
        self._owned = resolver is None
        self._proxies = _proxies()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name.

        Raises:
            NotPublic: it has some, and none is public.
            OSError: it has none.
        """
        found = await self._resolver.resolve(host, port, family)
        if host in self._proxies:
            return found
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise NotPublic(f"{host} leads to no public address")
        return public

    async def close(self) -> None:
        """Let go of the resolver."""
        if self._owned:
            await self._resolver.close()


def _proxies() -> frozenset[str]:
    """The hosts of the environment's proxies."""
    hosts = set()
    for scheme, proxy in getproxies().items():
        if scheme != "no":  # `no_proxy`: a list of hosts
            with contextlib.suppress(ValueError):  # no address: aiohttp will say so when it comes to it
                hosts.add(urlsplit(proxy).hostname or "")
    return frozenset(hosts)
