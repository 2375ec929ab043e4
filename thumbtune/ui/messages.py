"""The messages between the page's server and the model process: a line of JSON, then the bytes that it announces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["decoded", "encoded"]


def encoded(message: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """Encode a message as bytes; `blobs` follow its line."""
    line = json.dumps({**message, "blobs": [len(blob) for blob in blobs]}, default=str)
    return b"".join([line.encode(), b"\n", *blobs])


def decoded(line: bytes) -> tuple[dict[str, Any], list[int]]:
    """Decode a line; return the message and the sizes of the blobs that follow."""
    message = json.loads(line)
    sizes = [int(size) for size in message.pop("blobs")]
    return message, sizes
