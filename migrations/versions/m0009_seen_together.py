"""A pair is a title and a thumbnail that were seen together; runs and sweeps give signs of life.

Revision: 0009, after 0007.

Before, a changed title was immediately paired with the stored thumbnail, which may have changed at the same time. The
view `pairs` now shows the newest version whose thumbnail was checked after its title was seen.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

PAIRS = """
SELECT
    video.channel_id,
    video.id AS video_id,
    COALESCE(version.title, video.title) AS title,
    video.published_at,
    video.duration_s,
    COALESCE(version.picture_sha256, video.picture_sha256) AS picture_sha256,
    video.split,
    video.group_id
FROM video
LEFT JOIN video_version AS version
    ON version.video_id = video.id
    AND version.number = (
        SELECT MAX(complete.number) FROM video_version AS complete
        WHERE complete.video_id = video.id
            AND complete.picture_sha256 IS NOT NULL
            AND TRIM(complete.title) <> ''
    )
WHERE video.kind = 'video'
    AND video.availability = 'available'
    AND video.duration_s IS NOT NULL
    AND video.picture_sha256 IS NOT NULL
    AND TRIM(video.title) <> ''
"""

# The view before this revision.
OLD_PAIRS = """
SELECT
    video.channel_id,
    video.id AS video_id,
    video.title,
    video.published_at,
    video.duration_s,
    video.picture_sha256,
    video.split,
    video.group_id
FROM video
WHERE video.kind = 'video'
    AND video.availability = 'available'
    AND video.duration_s IS NOT NULL
    AND video.picture_sha256 IS NOT NULL
    AND TRIM(video.title) <> ''
"""

# Current versions with a changed title whose thumbnail was not checked after the title was seen, because the sync was
# stopped or the check failed. A change of the size sets a time in 1970, which does not count.
UNCHECKED = """
    SELECT version.id, version.video_id FROM video_version AS version
    JOIN video_version AS before
        ON before.video_id = version.video_id AND before.number = version.number - 1
    JOIN video ON video.id = version.video_id
    WHERE version.number = (SELECT MAX(newest.number) FROM video_version AS newest WHERE newest.video_id = video.id)
        AND before.title <> version.title
        AND before.picture_sha256 = version.picture_sha256
        AND video.picture_checked_at < version.first_seen_at
        AND video.picture_checked_at > '1971-01-01'
"""


def _replace_pairs(query: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW pairs")
        op.execute(f"CREATE VIEW pairs AS {query}")
    else:  # PostgreSQL can't drop a view that a user's view depends on
        op.execute(f"CREATE OR REPLACE VIEW pairs AS {query}")


def upgrade() -> None:
    _replace_pairs(PAIRS)
    connection = op.get_bind()
    unchecked = [{"id": row[0], "video_id": row[1]} for row in connection.execute(sa.text(UNCHECKED))]
    if unchecked:
        # The next sync checks them. Versions in snapshots keep the thumbnail with which they were trained.
        connection.execute(sa.text("UPDATE video SET picture_checked_at = NULL WHERE id = :video_id"), unchecked)
        without = (
            "UPDATE video_version SET picture_sha256 = NULL WHERE id = :id "
            "AND NOT EXISTS (SELECT 1 FROM snapshot_example "
            "WHERE snapshot_example.video_id = video_version.video_id "
            "AND snapshot_example.version_id = video_version.id)"
        )
        connection.execute(sa.text(without), unchecked)
    for table in ("training_run", "sweep"):
        op.add_column(table, sa.Column("seen_at", sa.DateTime(timezone=True), nullable=True))
        op.execute(f"UPDATE {table} SET seen_at = started_at WHERE status = 'running'")


def downgrade() -> None:
    for table in ("sweep", "training_run"):
        op.drop_column(table, "seen_at")
    _replace_pairs(OLD_PAIRS)
