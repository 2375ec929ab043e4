"""When the process of a sync, run or sweep started, independent of the clock.

Revision: 0015, after 0014.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = ("sync_run", "training_run", "sweep")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("process_start", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "process_start")
