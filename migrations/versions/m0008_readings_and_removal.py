"""Counts over time and the view `changes`; when refreshes began; which channels were removed.

Revision: 0008, after 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)

NEIGHBOURS = 25
"""Number of compared videos published before, and after, a video."""
MOST_GAP_S = 2 * 24 * 3600
"""Maximum seconds between two readings; over longer times, interpolation says nothing about a single day."""


def seconds_between(dialect: str, later: str, earlier: str) -> str:
    """Return SQL for the seconds from one time to another, as a double."""
    if dialect == "sqlite":
        return f"((julianday({later}) - julianday({earlier})) * 86400.0)"
    return f"CAST(EXTRACT(EPOCH FROM ({later} - {earlier})) AS DOUBLE PRECISION)"


def days_from(dialect: str, moment: str, days: str) -> str:
    """Return SQL for a time that is a number of 24-hour days later, with microseconds."""
    if dialect == "sqlite":
        return f"(date({moment}, {days} || ' days') || substr({moment}, 11))"
    return f"({moment} + {days} * INTERVAL '24 hours')"


def changes_view(dialect: str) -> str:
    """Return the view `changes` in the SQL of one database."""
    age = seconds_between(dialect, "change.seen_at", "change.published_at")
    age_of_other = seconds_between(dialect, "change.seen_at", "other.published_at")
    passed = seconds_between(dialect, "point.moment", "low.read_at")
    gap = seconds_between(dialect, "high.read_at", "low.read_at")
    neighbour = """SELECT near.published_at FROM video AS near
                WHERE near.channel_id = video.channel_id AND near.kind = video.kind"""
    complete = "gain.own = 0 AND gain.before IS NOT NULL AND gain.at IS NOT NULL AND gain.after IS NOT NULL"
    near = """other.channel_id = change.channel_id
        AND other.published_at BETWEEN change.compared_from AND change.compared_to"""
    if dialect == "sqlite":
        once, others = "", f"JOIN video AS other ON {near}"
    else:
        # PostgreSQL's planner expects few changes and would read all videos for each, and would search the readings
        # again for each candidate row. OFFSET 0 and MATERIALIZED prevent both.
        once = "MATERIALIZED "
        others = f"CROSS JOIN LATERAL (SELECT other.* FROM video AS other WHERE {near} OFFSET 0) AS other"
    return f"""
CREATE VIEW changes AS
WITH change AS (
    SELECT
        newer.id AS version_id,
        newer.video_id,
        video.channel_id,
        video.kind,
        video.published_at,
        newer.number,
        newer.first_seen_at AS seen_at,
        older.last_seen_at AS unchanged_at,
        CASE
            WHEN newer.title = older.title THEN 'thumbnail'
            WHEN newer.picture_sha256 <> older.picture_sha256 THEN 'both'
            ELSE 'title'
        END AS changed,
        older.title AS old_title,
        newer.title AS new_title,
        older.picture_sha256 AS old_picture_sha256,
        newer.picture_sha256 AS new_picture_sha256,
        COALESCE((
            SELECT MIN(nearest.published_at) FROM (
                {neighbour} AND near.published_at < video.published_at
                ORDER BY near.published_at DESC LIMIT {NEIGHBOURS}
            ) AS nearest
        ), video.published_at) AS compared_from,
        COALESCE((
            SELECT MAX(nearest.published_at) FROM (
                {neighbour} AND near.published_at > video.published_at
                ORDER BY near.published_at LIMIT {NEIGHBOURS}
            ) AS nearest
        ), video.published_at) AS compared_to
    FROM video_version AS newer
    JOIN video_version AS older ON older.video_id = newer.video_id AND older.number = newer.number - 1
    JOIN video ON video.id = newer.video_id
    JOIN channel ON channel.id = video.channel_id
    WHERE newer.number > 1
        AND channel.removed_at IS NULL
        AND older.title <> ''
        AND (newer.title <> older.title OR newer.picture_sha256 <> older.picture_sha256)
),
compared AS (
    SELECT change.version_id, change.seen_at, change.video_id, 1 AS own
    FROM change
    UNION ALL
    SELECT change.version_id, change.seen_at, other.id, 0
    FROM change
    {others}
    WHERE other.id <> change.video_id
        AND other.kind = change.kind
        AND {age_of_other} BETWEEN 0.5 * {age} AND 2 * {age}
        AND NOT EXISTS (
            SELECT 1 FROM video_version
            WHERE video_version.video_id = other.id
                AND video_version.number > 1
                AND video_version.first_seen_at BETWEEN {days_from(dialect, "change.seen_at", "-1")}
                    AND {days_from(dialect, "change.seen_at", "1")}
        )
),
point AS {once}(
    SELECT
        compared.version_id,
        compared.video_id,
        compared.own,
        day.number AS day,
        {days_from(dialect, "compared.seen_at", "day.number")} AS moment,
        (
            SELECT MAX(video_reading.read_at) FROM video_reading
            WHERE video_reading.video_id = compared.video_id
                AND video_reading.views IS NOT NULL
                AND video_reading.read_at <= {days_from(dialect, "compared.seen_at", "day.number")}
        ) AS low_at,
        (
            SELECT MIN(video_reading.read_at) FROM video_reading
            WHERE video_reading.video_id = compared.video_id
                AND video_reading.views IS NOT NULL
                AND video_reading.read_at >= {days_from(dialect, "compared.seen_at", "day.number")}
        ) AS high_at
    FROM compared
    CROSS JOIN (SELECT -1 AS number UNION ALL SELECT 0 UNION ALL SELECT 1) AS day
),
gain AS (
    SELECT
        valued.version_id,
        valued.own,
        MAX(CASE WHEN valued.day = -1 THEN valued.views END) AS before,
        MAX(CASE WHEN valued.day = 0 THEN valued.views END) AS at,
        MAX(CASE WHEN valued.day = 1 THEN valued.views END) AS after
    FROM (
        SELECT
            point.version_id,
            point.video_id,
            point.own,
            point.day,
            CASE
                WHEN point.low_at = point.high_at THEN CAST(low.views AS DOUBLE PRECISION)
                ELSE low.views + (high.views - low.views) * {passed} / {gap}
            END AS views
        FROM point
        JOIN video_reading AS low ON low.video_id = point.video_id AND low.read_at = point.low_at
        JOIN video_reading AS high ON high.video_id = point.video_id AND high.read_at = point.high_at
        WHERE {gap} <= {MOST_GAP_S}
    ) AS valued
    GROUP BY valued.version_id, valued.own, valued.video_id
),
measured AS (
    SELECT
        gain.version_id,
        MAX(CASE WHEN gain.own = 1 THEN gain.before END) AS before,
        MAX(CASE WHEN gain.own = 1 THEN gain.at END) AS at,
        MAX(CASE WHEN gain.own = 1 THEN gain.after END) AS after,
        SUM(CASE WHEN {complete} THEN 1 ELSE 0 END) AS others,
        SUM(CASE WHEN {complete} THEN gain.at - gain.before END) AS others_before,
        SUM(CASE WHEN {complete} THEN gain.after - gain.at END) AS others_after
    FROM gain
    GROUP BY gain.version_id
)
SELECT
    change.channel_id,
    change.video_id,
    change.number,
    change.seen_at,
    change.unchanged_at,
    change.changed,
    change.old_title,
    change.new_title,
    change.old_picture_sha256,
    change.new_picture_sha256,
    change.published_at,
    measured.before AS views_day_before,
    measured.at AS views_at,
    measured.after AS views_day_after,
    (measured.after - measured.at) / NULLIF(measured.at - measured.before, 0) AS ratio,
    COALESCE(measured.others, 0) AS others,
    measured.others_before AS others_gain_before,
    measured.others_after AS others_gain_after,
    measured.others_after / NULLIF(measured.others_before, 0) AS others_ratio
FROM change
LEFT JOIN measured ON measured.version_id = change.version_id
"""


# Without these indexes, each deleted video would scan all rows that can refer to it.
REFERENCES = (("snapshot_example", "version_id"), ("rank", "video_id"), ("rank", "top_video_id"))


def upgrade() -> None:
    op.add_column("channel", sa.Column("refresh_began_at", UTC_TIME, nullable=True))
    op.add_column("channel", sa.Column("removed_at", UTC_TIME, nullable=True))
    op.create_table(
        "video_reading",
        sa.Column("video_id", sa.Text(), nullable=False),
        sa.Column("read_at", UTC_TIME, nullable=False),
        sa.Column("views", sa.BigInteger(), nullable=True),
        sa.Column("likes", sa.BigInteger(), nullable=True),
        sa.Column("comments", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["video_id"], ["video.id"], name=op.f("fk_video_reading_video_id_video")),
        sa.PrimaryKeyConstraint("video_id", "read_at", name=op.f("pk_video_reading")),
        sqlite_with_rowid=False,
    )
    for table, column in REFERENCES:
        op.create_index(f"ix_{table}_{column}", table, [column])
    op.execute(changes_view(op.get_bind().dialect.name))


def downgrade() -> None:
    op.execute("DROP VIEW changes")
    op.drop_table("video_reading")
    for table, column in REFERENCES:
        op.drop_index(f"ix_{table}_{column}", table)
    for column in ("removed_at", "refresh_began_at"):
        op.drop_column("channel", column)
