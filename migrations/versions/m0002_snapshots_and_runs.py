"""Datasets, training runs and their results: the trainer's tables.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "snapshot",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("created_at", UTC_TIME, nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("n_train", sa.Integer(), nullable=False),
        sa.Column("n_valid", sa.Integer(), nullable=False),
        sa.Column("n_test", sa.Integer(), nullable=False),
        sa.Column("excluded", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_snapshot_fingerprint")),
    )
    op.create_table(
        "training_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started_at", UTC_TIME, nullable=False),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("phase_seconds", JSON, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("snapshot_id", sa.Integer(), nullable=True),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("base_fingerprint", sa.Text(), nullable=True),
        sa.Column("trained", sa.Text(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("packages", JSON, nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("git_commit", sa.Text(), nullable=True),
        sa.Column("parameters_total", sa.BigInteger(), nullable=True),
        sa.Column("parameters_trainable", sa.BigInteger(), nullable=True),
        sa.Column("artifact_path", sa.Text(), nullable=True),
        sa.Column("artifact_sha256", sa.String(length=64), nullable=True),
        sa.Column("output_path", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "status IN ('running', 'done', 'failed', 'interrupted')", name=op.f("ck_training_run_status")
        ),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name=op.f("fk_training_run_snapshot_id_snapshot")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_run")),
    )
    op.create_index(op.f("ix_training_run_snapshot_id"), "training_run", ["snapshot_id"], unique=False)
    op.create_index(op.f("ix_training_run_started_at"), "training_run", ["started_at"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("k", sa.Integer(), nullable=True),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "direction IN ('thumbnail_to_title', 'title_to_thumbnail')", name=op.f("ck_evaluation_direction")
        ),
        sa.CheckConstraint("split IN ('train', 'valid', 'test')", name=op.f("ck_evaluation_split")),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name=op.f("fk_evaluation_run_id_training_run")),
        sa.PrimaryKeyConstraint("run_id", "model", "scope", "split", "direction", "metric", name=op.f("pk_evaluation")),
    )
    op.create_table(
        "rank",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("direction", sa.Text(), nullable=False),
        sa.Column("video_id", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("top_video_id", sa.Text(), nullable=False),
        sa.Column("top_score", sa.Double(), nullable=False),
        sa.CheckConstraint("direction IN ('thumbnail_to_title', 'title_to_thumbnail')", name=op.f("ck_rank_direction")),
        sa.CheckConstraint("split IN ('train', 'valid', 'test')", name=op.f("ck_rank_split")),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name=op.f("fk_rank_run_id_training_run")),
        sa.ForeignKeyConstraint(["top_video_id"], ["video.id"], name=op.f("fk_rank_top_video_id_video")),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_rank_video_id_video")),
        sa.PrimaryKeyConstraint("run_id", "model", "direction", "video_id", name=op.f("pk_rank")),
    )
    op.create_table(
        "training_step",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Double(), nullable=False),
        sa.Column("loss", sa.Double(), nullable=False),
        sa.Column("learning_rate", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["training_run.id"], name=op.f("fk_training_step_run_id_training_run")),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_training_step")),
    )
    op.create_table(
        "snapshot_example",
        sa.Column("snapshot_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("video_id", sa.Text(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("negative_position", sa.Integer(), nullable=True),
        sa.CheckConstraint("split IN ('train', 'valid', 'test')", name=op.f("ck_snapshot_example_split")),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_snapshot_example_channel_id_channel")),
        sa.ForeignKeyConstraint(
            ["snapshot_id"], ["snapshot.id"], name=op.f("fk_snapshot_example_snapshot_id_snapshot")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["video_version.id"], name=op.f("fk_snapshot_example_version_id_video_version")
        ),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_snapshot_example_video_id_video")),
        sa.PrimaryKeyConstraint("snapshot_id", "position", name=op.f("pk_snapshot_example")),
        sa.UniqueConstraint("snapshot_id", "video_id", name=op.f("uq_snapshot_example_snapshot_id_video_id")),
    )
    op.create_index(op.f("ix_snapshot_example_video_id"), "snapshot_example", ["video_id"], unique=False)


def downgrade() -> None:
    op.drop_table("snapshot_example")
    op.drop_table("training_step")
    op.drop_table("rank")
    op.drop_table("evaluation")
    op.drop_table("training_run")
    op.drop_table("snapshot")
