"""Opaque page tokens and ETags."""

from __future__ import annotations

import base64
import binascii
import hashlib

from thumbtune.standin.errors import ApiError

__all__ = ["etag", "page_token", "token_offset"]

_SEAL_BYTES = 6


def page_token(listing: str, offset: int) -> str:
    """Return the token of the page of `listing` (a method and its list) that starts at `offset`.

    The checksum binds the token to the listing: like YouTube, the server rejects tokens of other lists and invented
    tokens.
    """
    place = offset.to_bytes(4, "big")
    return base64.urlsafe_b64encode(_seal(listing, place) + place).decode("ascii").rstrip("=")


def token_offset(listing: str, token: str | None) -> int:
    """Return the offset of a token's page; 0 without a token.

    Raises:
        ApiError: the token is invalid (400 invalidPageToken).
    """
    if not token:
        return 0
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ApiError.invalid_page_token() from None
    seal, place = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
    if len(place) != 4 or seal != _seal(listing, place):
        raise ApiError.invalid_page_token()
    return int.from_bytes(place, "big")


def etag(*parts: object) -> str:
    """Return 27 characters of base64url, like the API's ETags, from anything that has a stable `repr`."""
    digest = hashlib.sha1(repr(parts).encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _seal(listing: str, place: bytes) -> bytes:
    message = listing.encode("utf-8", "surrogatepass") + b"\0" + place
    return hashlib.blake2b(message, digest_size=_SEAL_BYTES).digest()
