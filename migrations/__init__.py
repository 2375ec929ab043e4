"""Alembic's scripts, as a package so that the wheel ships them. `store.db.migrate` runs them."""
