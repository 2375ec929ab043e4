"""What a retraining decided: a run that was not taken into use says why, and is told from one that was never asked.

Of pictures, NULL as the time of the last check now means that the next sync checks them, not only a refresh: those for
which a refresh was to ask, in another size, get a time long ago instead.

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("training_run", sa.Column("decision", sa.Text(), nullable=True))
    # Of a run that took its place: what was written down then. Earlier ones that did not are unknown.
    op.execute(
        "UPDATE training_run SET decision = (SELECT MIN(promotion.reason) FROM promotion "
        "WHERE promotion.run_id = training_run.id AND promotion.reason LIKE 'valid recall@1 %') "
        "WHERE champion_run_id IS NOT NULL"
    )
    zone = "" if op.get_bind().dialect.name == "sqlite" else "+00"
    op.execute(
        f"UPDATE video SET picture_checked_at = '1970-01-01 00:00:00.000000{zone}' "
        "WHERE picture_checked_at IS NULL AND picture_sha256 IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_column("training_run", "decision")
