"""A PostgreSQL server for the time of a measurement."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["postgres"]


@contextmanager
def postgres() -> Iterator[str]:
    """Start a PostgreSQL server; yield its URL."""
    import pgserver  # noqa: PLC0415 (only needed for PostgreSQL)

    # Not in a folder of the caller, which only this user can read: root's server runs as another user.
    with tempfile.TemporaryDirectory(prefix="thumbtune-postgres-") as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
