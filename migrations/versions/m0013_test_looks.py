"""Each time that a model was scored on the test split, counted.

Until now every run was scored on it: those are the first looks.

Revision: 0013, after 0011.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "test_look",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=True),
        sa.Column("snapshot_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name="fk_test_look_run_id_training_run"),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name="fk_test_look_snapshot_id_snapshot"),
        sa.PrimaryKeyConstraint("id", name="pk_test_look"),
    )
    op.execute(
        "INSERT INTO test_look (looked_at, model, run_id, snapshot_id) "
        "SELECT COALESCE(finished_at, started_at), 'tuned', id, snapshot_id FROM training_run "
        "WHERE EXISTS (SELECT 1 FROM evaluation "
        "WHERE evaluation.run_id = training_run.id AND evaluation.model = 'tuned' AND evaluation.split = 'test') "
        "ORDER BY id"
    )


def downgrade() -> None:
    op.drop_table("test_look")
