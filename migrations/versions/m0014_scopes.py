"""Which channels a promotion is for, channels that are paused, and runs that are hidden from the list.

Revision: 0014, after 0011.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from migrations.versions.m0004_features_champions_sweeps import CHAMPIONS as OLD_CHAMPIONS

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)

CHAMPIONS = OLD_CHAMPIONS.replace("OVER (ORDER BY", "OVER (PARTITION BY promotion.scope ORDER BY").replace(
    "    training_run.artifact_path\n", "    training_run.artifact_path,\n    promotion.scope\n"
)


def upgrade() -> None:
    op.add_column("promotion", sa.Column("scope", sa.Text(), nullable=False, server_default="all"))
    op.add_column("channel", sa.Column("paused_at", UTC_TIME, nullable=True))
    op.add_column("training_run", sa.Column("hidden_at", UTC_TIME, nullable=True))
    connection = op.get_bind()
    runs = sa.text("SELECT id, settings FROM training_run WHERE id IN (SELECT run_id FROM promotion)")
    for run_id, settings in connection.execute(runs).all():
        channels = (json.loads(settings) if isinstance(settings, str) else settings).get("channels")
        if channels:
            connection.execute(
                sa.text("UPDATE promotion SET scope = :scope WHERE run_id = :run"),
                {"scope": ",".join(sorted(set(channels))), "run": run_id},
            )
    _replace_champions(CHAMPIONS)


def downgrade() -> None:
    op.execute("DROP VIEW champions")
    op.execute(OLD_CHAMPIONS)
    op.drop_column("training_run", "hidden_at")
    op.drop_column("channel", "paused_at")
    op.drop_column("promotion", "scope")


def _replace_champions(create: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW champions")
    else:  # there, a view of the user's that reads this one would keep it from being dropped
        create = create.replace("CREATE VIEW", "CREATE OR REPLACE VIEW")
    op.execute(create)
