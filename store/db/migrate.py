"""Migrate a database to the current schema in one transaction, even if several processes start at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

import migrations
from store.db.schema_check import broken_references
from store.errors import DatabaseUnavailable, NotAStore, StoreError, StoreTooNew, StoreTooOld
from store.wording import counted

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["alembic_config", "bring_up_to_date", "current_revision", "head_revision", "require_current"]

# An arbitrary constant, the same in every process: PostgreSQL's advisory locks are identified by numbers.
_ADVISORY_LOCK = 7_468_756_662


def alembic_config(connection: Connection | None = None) -> Config:
    """Build Alembic's configuration in code, because the wheel ships the scripts but no ini file."""
    from alembic.config import Config  # noqa: PLC0415 (only migrations need it; importing takes a tenth of a second)

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    if connection is not None:
        config.attributes["connection"] = connection
    return config


@cache
def _known_revisions() -> tuple[str, ...]:
    """All revisions, oldest first, from the names of the scripts: `m0001_what.py` is revision `0001`."""
    return tuple(sorted(path.name[1:5] for path in Path(migrations.__file__).parent.glob("versions/m[0-9]*.py")))


def head_revision() -> str:
    """Return the newest revision that this version of thumbtune knows."""
    return _known_revisions()[-1]


def current_revision(connection: Connection) -> str | None:
    """Return the database's revision, or None if it was never migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def require_current(engine: Engine) -> None:
    """Check, without writing, that the schema is current.

    Raises:
        NotAStore, StoreTooNew, StoreTooOld.
    """
    with engine.connect() as connection:
        revision = _checked_revision(connection)
    if revision is None:
        raise NotAStore("the database is empty; run 'thumbtune sync CHANNEL' or 'thumbtune db upgrade' first")
    if revision != head_revision():
        raise StoreTooOld(f"the store's schema is at revision {revision}; run 'thumbtune db upgrade' first")


def bring_up_to_date(engine: Engine, *, create: bool = True, target: str = "head") -> None:
    """Migrate to `target` completely or not at all, and only once if several processes start together.

    Raises:
        NotAStore: the database holds other tables.
        StoreTooNew: the revision is unknown to this version.
        DatabaseUnavailable: the database is empty and `create` is false.
        StoreError: a migration left dangling references (it was rolled back).
    """
    with engine.connect() as connection:
        revision = _checked_revision(connection)
    target_revision = head_revision() if target == "head" else target
    if revision == target_revision:
        return
    if revision is None and not create:
        raise DatabaseUnavailable("the database is empty; run 'thumbtune sync CHANNEL' first")
    from alembic import command  # noqa: PLC0415 (as above)

    with _exclusive(engine) as connection:
        # Another process may have migrated while this process waited for the lock; Alembic reads the revision again.
        _checked_revision(connection)
        command.upgrade(alembic_config(connection), target_revision)


def _checked_revision(connection: Connection) -> str | None:
    tables = set(inspect(connection).get_table_names())
    if "alembic_version" not in tables:
        if tables:
            raise NotAStore("the database has other tables and is not a thumbtune store; use another database (--db)")
        return None
    revision = current_revision(connection)
    if revision is not None and revision not in _known_revisions():
        if "channel" not in tables:
            raise NotAStore("the database belongs to another program; use another database (--db)")
        raise StoreTooNew(f"the store's schema is at revision {revision}, unknown to this version; upgrade thumbtune")
    return revision


@contextmanager
def _exclusive(engine: Engine) -> Iterator[Connection]:
    """Open a connection with a transaction that excludes other migrations."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection
        return
    immediate = engine.execution_options(thumbtune_begin="IMMEDIATE")
    with immediate.connect() as connection:
        # Migrations change a SQLite table by copying it. With foreign keys enforced, dropping the old table would
        # delete its rows. Enforcement can only be switched outside of a transaction; the check below replaces it.
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
                broken = broken_references(connection)
                if broken:
                    rows = counted(len(broken), "row")
                    raise StoreError(f"a migration would leave {rows} with dangling references; please report this")
        finally:
            driver.execute("PRAGMA foreign_keys = ON")
