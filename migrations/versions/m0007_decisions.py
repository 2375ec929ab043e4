"""What a retraining decided: a run that was not taken into use says why, and is told from one that was never asked.

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


def downgrade() -> None:
    op.drop_column("training_run", "decision")
