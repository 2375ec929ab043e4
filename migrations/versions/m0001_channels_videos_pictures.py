"""Channels, videos and their history, thumbnails, syncs: the collector's tables.

Revision: 0001, after None.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "channel",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("handle", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("uploads_playlist_id", sa.Text(), nullable=False),
        sa.Column("min_duration_s", sa.Integer(), nullable=False),
        sa.Column("thumbnail_size", sa.Text(), nullable=False),
        sa.Column("api_item", JSON, nullable=True),
        sa.Column("added_at", UTC_TIME, nullable=False),
        sa.Column("listing_token", sa.Text(), nullable=True),
        sa.Column("listing_began_at", UTC_TIME, nullable=True),
        sa.Column("listed_at", UTC_TIME, nullable=True),
        sa.Column("synced_at", UTC_TIME, nullable=True),
        sa.Column("refreshed_at", UTC_TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel")),
    )
    op.create_table(
        "picture",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
        sa.Column("mime", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("byte_count", sa.Integer(), nullable=False),
        sa.Column("fetched_at", UTC_TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_picture")),
    )
    op.create_table(
        "quota_day",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("key_fingerprint", sa.Text(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "key_fingerprint", name=op.f("pk_quota_day")),
    )
    op.create_table(
        "sync_run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("started_at", UTC_TIME, nullable=False),
        sa.Column("finished_at", UTC_TIME, nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("listed", sa.Integer(), nullable=False),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("changed", sa.Integer(), nullable=False),
        sa.Column("gone", sa.Integer(), nullable=False),
        sa.Column("pictures_fetched", sa.Integer(), nullable=False),
        sa.Column("pictures_unchanged", sa.Integer(), nullable=False),
        sa.Column("pictures_failed", sa.Integer(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("units", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.CheckConstraint("mode IN ('incremental', 'full', 'refresh')", name=op.f("ck_sync_run_mode")),
        sa.CheckConstraint(
            "status IN ('running', 'complete', 'unchanged', 'quota', 'partial', 'failed', 'interrupted')",
            name=op.f("ck_sync_run_status"),
        ),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_sync_run_channel_id_channel")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_run")),
    )
    op.create_index("ix_sync_run_channel_id_started_at", "sync_run", ["channel_id", "started_at"], unique=False)
    op.create_table(
        "video",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("picture_sha256", sa.String(length=64), nullable=True),
        sa.Column("published_at", UTC_TIME, nullable=True),
        sa.Column("duration_s", sa.Integer(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("availability", sa.Text(), nullable=False),
        sa.Column("api_item", JSON, nullable=True),
        sa.Column("first_seen_at", UTC_TIME, nullable=False),
        sa.Column("last_seen_at", UTC_TIME, nullable=False),
        sa.Column("details_at", UTC_TIME, nullable=True),
        sa.Column("picture_url", sa.Text(), nullable=True),
        sa.Column("picture_etag", sa.Text(), nullable=True),
        sa.Column("picture_last_modified", sa.Text(), nullable=True),
        sa.Column("picture_checked_at", UTC_TIME, nullable=True),
        sa.Column("group_id", sa.Text(), nullable=True),
        sa.Column("split", sa.Text(), nullable=True),
        sa.Column("split_at", UTC_TIME, nullable=True),
        sa.CheckConstraint("availability IN ('available', 'private', 'gone')", name=op.f("ck_video_availability")),
        sa.CheckConstraint("kind IN ('video', 'short', 'upcoming', 'live', 'unknown')", name=op.f("ck_video_kind")),
        sa.CheckConstraint("split IN ('train', 'valid', 'test')", name=op.f("ck_video_split")),
        sa.ForeignKeyConstraint(["channel_id"], ["channel.id"], name=op.f("fk_video_channel_id_channel")),
        sa.ForeignKeyConstraint(["picture_sha256"], ["picture.sha256"], name=op.f("fk_video_picture_sha256_picture")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_video")),
    )
    op.create_index("ix_video_channel_id_published_at", "video", ["channel_id", "published_at"], unique=False)
    op.create_index("ix_video_channel_id_id", "video", ["channel_id", "id"], unique=False)
    op.create_index(op.f("ix_video_group_id"), "video", ["group_id"], unique=False)
    op.create_index(op.f("ix_video_picture_sha256"), "video", ["picture_sha256"], unique=False)
    op.create_table(
        "picture_failure",
        sa.Column("video_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", UTC_TIME, nullable=False),
        sa.Column("last_failed_at", UTC_TIME, nullable=False),
        sa.Column("next_try_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_picture_failure_video_id_video")),
        sa.PrimaryKeyConstraint("video_id", name=op.f("pk_picture_failure")),
    )
    op.create_table(
        "video_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("video_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("picture_sha256", sa.String(length=64), nullable=True),
        sa.Column("first_seen_at", UTC_TIME, nullable=False),
        sa.Column("last_seen_at", UTC_TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["picture_sha256"], ["picture.sha256"], name=op.f("fk_video_version_picture_sha256_picture")
        ),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_video_version_video_id_video")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_video_version")),
        sa.UniqueConstraint("video_id", "number", name=op.f("uq_video_version_video_id_number")),
    )
    op.create_index(op.f("ix_video_version_picture_sha256"), "video_version", ["picture_sha256"], unique=False)


def downgrade() -> None:
    op.drop_table("video_version")
    op.drop_table("picture_failure")
    op.drop_table("video")
    op.drop_table("sync_run")
    op.drop_table("quota_day")
    op.drop_table("picture")
    op.drop_table("channel")
