"""The decision of a retraining: why a run was not promoted, as opposed to a run that was never compared.

A thumbnail whose time of the last check is NULL is now checked by the next sync, not only by a refresh. Thumbnails that
only a refresh must check, because of another size, get a time long ago instead.

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
    # For promoted runs, the recorded reason. The decisions on other earlier runs are unknown.
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
