"""The database: opening, migration, checks, backup, queries."""

from store.db.copying import copy_store
from store.db.damage import DamagedPicture, Showing, pictures_to_repair, unsound
from store.db.database import Database, open_database, rows_as_dicts
from store.db.maintenance import Check, backup, check, clear_cache, vacuum
from store.db.migrate import current_revision, head_revision
from store.db.query import run_query
from store.db.rows import batches, insert, insert_for, insert_rows, update_rows

__all__ = [
    "Check",
    "DamagedPicture",
    "Database",
    "Showing",
    "backup",
    "batches",
    "check",
    "clear_cache",
    "copy_store",
    "current_revision",
    "head_revision",
    "insert",
    "insert_for",
    "insert_rows",
    "open_database",
    "pictures_to_repair",
    "rows_as_dicts",
    "run_query",
    "unsound",
    "update_rows",
    "vacuum",
]
