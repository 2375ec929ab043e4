"""Alembic's scripts, as a package that the wheel ships. `store.db.migrate` runs them."""
