"""`known_model.heads` becomes `projections`, the term that everything else uses.

Revision: 0017, after 0016.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


# Alembic renames a column of SQLite by copying the table, which SQLite itself need not.
def upgrade() -> None:
    op.execute("ALTER TABLE known_model RENAME COLUMN heads TO projections")


def downgrade() -> None:
    op.execute("ALTER TABLE known_model RENAME COLUMN projections TO heads")
