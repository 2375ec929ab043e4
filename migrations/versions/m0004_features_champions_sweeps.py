"""The feature cache for fast retraining, the champion's history, and sweeps.

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.versions.m0003_views import RUN_ERRORS, recall
from migrations.versions.m0003_views import RUN_HISTORY as OLD_RUN_HISTORY

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
UTC_TIME = sa.DateTime(timezone=True)

RUN_HISTORY = OLD_RUN_HISTORY.replace(
    "    training_run.error\n",
    f"""    training_run.error,
    training_run.champion_run_id,
    {recall("champion", "valid", "value")} AS champion_valid_recall_at_1,
    {recall("champion", "test", "value")} AS champion_test_recall_at_1,
    training_run.sweep_id,
    training_run.trial
""",
)

CHAMPIONS = f"""
CREATE VIEW champions AS
SELECT
    promotion.run_id,
    promotion.promoted_at,
    LEAD(promotion.promoted_at) OVER (ORDER BY promotion.id) AS replaced_at,
    promotion.reason,
    training_run.base_model,
    training_run.trained,
    {recall("tuned", "valid", "value")} AS valid_recall_at_1,
    {recall("tuned", "test", "value")} AS test_recall_at_1,
    training_run.artifact_path
FROM promotion
JOIN training_run ON training_run.id = promotion.run_id
ORDER BY promotion.id
"""


def upgrade() -> None:
    op.create_table(
        "feature",
        # Another model, preprocessing or precision has another fingerprint, so vectors are never mixed.
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("tower", sa.Text(), nullable=False),
        # By content, not by video: a thumbnail or title of several videos is encoded once.
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("checksum", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("tower IN ('vision', 'text')", name=op.f("ck_feature_tower")),
        sa.PrimaryKeyConstraint("fingerprint", "tower", "digest", name=op.f("pk_feature")),
    )
    op.create_table(
        "known_model",
        # Digest of the files' sizes and times: hashing gigabytes of weights would take longer than the training.
        sa.Column("files", sa.String(length=64), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("facts", JSON, nullable=False),
        # The only part of the model that a rerun needs once the features are cached.
        sa.Column("heads", sa.LargeBinary(), nullable=True),
        sa.Column("checksum", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("files", name=op.f("pk_known_model")),
    )
    op.create_table(
        "promotion",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("promoted_at", UTC_TIME, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name=op.f("fk_promotion_run_id_training_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promotion")),
    )
    op.create_index("ix_promotion_run_id", "promotion", ["run_id"])
    op.create_table(
        "sweep",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started_at", UTC_TIME, nullable=False),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.CheckConstraint("status IN ('running', 'done', 'failed', 'interrupted')", name=op.f("ck_sweep_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep")),
    )
    # Plain SQL, because SQLite can only add a column and its reference in one statement.
    for column, table in (("champion_run_id", "training_run"), ("sweep_id", "sweep")):
        op.execute(
            f"ALTER TABLE training_run ADD COLUMN {column} INTEGER "
            f"CONSTRAINT fk_training_run_{column}_{table} REFERENCES {table} (id)"
        )
    op.add_column("training_run", sa.Column("trial", sa.Integer(), nullable=True))
    op.create_index("ix_training_run_sweep_id", "training_run", ["sweep_id"])
    op.execute("DROP VIEW run_history")
    op.execute(RUN_HISTORY)
    op.execute(CHAMPIONS)


def downgrade() -> None:
    for view in ("champions", "run_errors", "run_history"):
        op.execute(f"DROP VIEW {view}")
    op.drop_index("ix_training_run_sweep_id", "training_run")
    with op.batch_alter_table("training_run") as table:
        for column in ("champion_run_id", "sweep_id", "trial"):
            table.drop_column(column)
    for name in ("sweep", "promotion", "known_model", "feature"):
        op.drop_table(name)
    op.execute(OLD_RUN_HISTORY)
    op.execute(RUN_ERRORS)
