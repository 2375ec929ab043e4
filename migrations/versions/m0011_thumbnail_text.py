"""The text that OCR found on each thumbnail, as a table and as the last column of the view `pairs`.

Revision: 0011, after 0010.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

PAIRS = """
CREATE VIEW pairs AS
SELECT
    video.channel_id,
    video.id AS video_id,
    COALESCE(version.title, video.title) AS title,
    video.published_at,
    video.duration_s,
    COALESCE(version.picture_sha256, video.picture_sha256) AS picture_sha256,
    video.split,
    video.group_id{thumbnail_text}
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

# Several OCR readers or versions may have read a thumbnail: the view shows the latest text.
THUMBNAIL_TEXT = """,
    (
        SELECT thumbnail_words.text FROM thumbnail_words
        WHERE thumbnail_words.picture_sha256 = COALESCE(version.picture_sha256, video.picture_sha256)
        ORDER BY thumbnail_words.read_at DESC, thumbnail_words.reader DESC
        LIMIT 1
    ) AS thumbnail_text"""


def upgrade() -> None:
    op.create_table(
        "thumbnail_words",
        sa.Column("picture_sha256", sa.String(64), nullable=False),
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("picture_sha256", "reader", name="pk_thumbnail_words"),
    )
    _replace_pairs(PAIRS.format(thumbnail_text=THUMBNAIL_TEXT))


def downgrade() -> None:
    op.execute("DROP VIEW pairs")
    op.execute(PAIRS.format(thumbnail_text=""))
    op.drop_table("thumbnail_words")


def _replace_pairs(create: str) -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP VIEW pairs")
    else:  # PostgreSQL can't drop a view that a user's view depends on
        create = create.replace("CREATE VIEW", "CREATE OR REPLACE VIEW")
    op.execute(create)
