"""Alembic's scripts, as a package so that the wheel ships them. `store.migrate` runs them."""
