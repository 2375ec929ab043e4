"""Restricts connections for untrusted URLs to public IP addresses.

The owner of a host name controls its DNS and can return a different address at each lookup (DNS rebinding). The check
therefore runs in aiohttp's resolver, so that aiohttp connects to exactly the address that was checked.
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
    """A host name has no public address. Derives from OSError because aiohttp expects that of a resolver."""


def is_public(address: str) -> bool:
    """Whether an IP address is public unicast: not private, loopback, link-local, multicast or reserved.

    An IPv6 address that embeds an IPv4 address (mapped, 6to4, Teredo, NAT64) is public if that address is.
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
    """A resolver that returns only public addresses.

    The proxies in the environment are trusted and may have any address. Requests through a proxy are not checked,
    because the proxy resolves the target's name.

    Args:
        resolver: the underlying resolver; the caller closes it. Default: the system's.
    """

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver: AbstractResolver = resolver or DefaultResolver()
        self._owned = resolver is None
        self._proxies = _proxies()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolve a name.

        Raises:
            NotPublic: the name has addresses, but no public address.
            OSError: the name has no address.
        """
        found = await self._resolver.resolve(host, port, family)
        if host in self._proxies:
            return found
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise NotPublic(f"{host} has no public address")
        return public

    async def close(self) -> None:
        """Close the resolver, unless the caller supplied it."""
        if self._owned:
            await self._resolver.close()


def _proxies() -> frozenset[str]:
    """The hosts of the environment's proxies."""
    hosts = set()
    for scheme, proxy in getproxies().items():
        if scheme != "no":  # `no_proxy`: a list of hosts
            with contextlib.suppress(ValueError):  # an invalid URL: reported when a request uses this proxy
                hosts.add(urlsplit(proxy).hostname or "")
    return frozenset(hosts)
