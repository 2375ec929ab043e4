"""Restricts connections for untrusted URLs to public IP addresses.

The owner of a host name controls its DNS and can return a different address at each lookup (DNS rebinding). The check
therefore runs in aiohttp's resolver, so that aiohttp connects to exactly the address that was checked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

__all__ = ["NotPublic", "PublicOnly", "is_public"]

# Not `ipaddress.is_global`: its table depends on Python's version and lacks blocks of the registries.
_SPECIAL = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
    *("224.0.0.0/4", "240.0.0.0/4"),
    *("::/3", "4000::/2", "8000::/1"),  # everything but 2000::/3: special, or not assigned (RFC 4291)
    *("2001::/23", "2001:db8::/32", "3fff::/20"),
)
"""Blocks that are not globally reachable, multicast and reserved blocks. From IANA's registries of special addresses,
as of 2025-10-09, compared with several tables derived from them:
https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry"""
_REACHABLE = (
    *("192.0.0.9/32", "192.0.0.10/32"),
    *("2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32", "2001:4:112::/48", "2001:20::/28"),
    *("2001:30::/28", "::ffff:0:0/96", "64:ff9b::/96", "2001::/32"),
)
"""Blocks inside of them that are globally reachable; for the last three, the embedded address decides."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits."""
_ISATAP, _ISATAP_MASK = 0x00005EFE, 0xFCFFFFFF
"""RFC 5214, section 6.1: the upper half of the interface identifier, without its two flags; then an IPv4 address."""


class NotPublic(OSError):
    """A host name has no public address. Derives from OSError because aiohttp expects that of a resolver."""


def is_public(address: str) -> bool:
    """Whether an IP address is public unicast: globally reachable in IANA's registries of special addresses.

    An IPv6 address that embeds an IPv4 address (mapped, 6to4, Teredo, NAT64, ISATAP) is public if that address is.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if not all(is_public(str(inner)) for inner in _embedded(ip)):
        return False
    return any(ip in block for block in _blocks(_REACHABLE)) or not any(ip in block for block in _blocks(_SPECIAL))


@cache
def _blocks(names: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(map(ipaddress.ip_network, names))


def _embedded(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    if isinstance(ip, ipaddress.IPv4Address):
        return []
    found = [inner for inner in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if inner is not None]
    if ip in _NAT64 or int(ip) >> 32 & _ISATAP_MASK == _ISATAP:
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return found


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
