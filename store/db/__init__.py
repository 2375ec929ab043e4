"""The database: opening, migration, checks, backup, queries, and where thumbnail files are."""

from store.db.copying import copy_store
from store.db.damage import DamagedPicture, Showing, pictures_to_repair, unsound
from store.db.database import Database, open_database, rows_as_dicts
from store.db.maintenance import Check, backup, check, clear_cache, vacuum
from store.db.migrate import current_revision, head_revision
from store.db.moving import move_pictures
from store.db.picture_files import (
    delete_files,
    delete_orphans,
    expect_pictures,
    outside_files,
    put_files,
    read_files,
    require_place,
)
from store.db.places import place_url
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
    "delete_files",
    "delete_orphans",
    "expect_pictures",
    "head_revision",
    "insert",
    "insert_for",
    "insert_rows",
    "move_pictures",
    "open_database",
    "outside_files",
    "pictures_to_repair",
    "place_url",
    "put_files",
    "read_files",
    "require_place",
    "rows_as_dicts",
    "run_query",
    "unsound",
    "update_rows",
    "vacuum",
]
