"""The public views for SQL users, documented column by column in docs/store.md.

Revision: 0003, after 0002.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Plain SQL that SQLite and PostgreSQL both accept. Users' queries depend on the views: a later revision may add columns
# at the end, but must not rename or remove one without a new view name.
PAIRS = """
CREATE VIEW pairs AS
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

SYNC_HISTORY = """
CREATE VIEW sync_history AS
SELECT
    sync_run.id AS sync_id,
    sync_run.channel_id,
    channel.handle,
    channel.title,
    sync_run.started_at,
    sync_run.mode,
    sync_run.status,
    sync_run.listed,
    sync_run.new,
    sync_run.changed,
    sync_run.gone,
    sync_run.pictures_fetched,
    sync_run.pictures_unchanged,
    sync_run.pictures_failed,
    sync_run.requests,
    sync_run.units,
    sync_run.seconds,
    sync_run.error
FROM sync_run
JOIN channel ON channel.id = sync_run.channel_id
ORDER BY sync_run.id
"""


def recall(model: str, split: str, column: str) -> str:
    """Return a subquery for recall@1 from thumbnail to title over all channels of the run."""
    return f"""(
        SELECT evaluation.{column} FROM evaluation
        WHERE evaluation.run_id = training_run.id
            AND evaluation.model = '{model}'
            AND evaluation.scope = 'all'
            AND evaluation.split = '{split}'
            AND evaluation.direction = 'thumbnail_to_title'
            AND evaluation.metric = 'recall@1'
    )"""


RUN_HISTORY = f"""
CREATE VIEW run_history AS
SELECT
    training_run.id AS run_id,
    training_run.started_at,
    training_run.status,
    training_run.base_model,
    training_run.snapshot_id,
    snapshot.n_train,
    snapshot.n_valid,
    snapshot.n_test,
    {recall("base", "valid", "value")} AS base_valid_recall_at_1,
    {recall("tuned", "valid", "value")} AS valid_recall_at_1,
    {recall("tuned", "valid", "low")} AS valid_recall_at_1_low,
    {recall("tuned", "valid", "high")} AS valid_recall_at_1_high,
    {recall("base", "test", "value")} AS base_test_recall_at_1,
    {recall("tuned", "test", "value")} AS test_recall_at_1,
    {recall("tuned", "test", "low")} AS test_recall_at_1_low,
    {recall("tuned", "test", "high")} AS test_recall_at_1_high,
    training_run.trained,
    training_run.seed,
    training_run.device,
    training_run.seconds,
    training_run.settings,
    training_run.artifact_path,
    training_run.error
FROM training_run
LEFT JOIN snapshot ON snapshot.id = training_run.snapshot_id
ORDER BY training_run.id
"""

RUN_ERRORS = """
CREATE VIEW run_errors AS
SELECT
    rank.run_id,
    rank.model,
    rank.split,
    rank.video_id,
    own_version.title,
    own_version.picture_sha256,
    rank.rank,
    rank.score,
    rank.top_video_id,
    top_version.title AS top_title,
    rank.top_score
FROM rank
JOIN training_run ON training_run.id = rank.run_id
JOIN snapshot_example AS own
    ON own.snapshot_id = training_run.snapshot_id AND own.video_id = rank.video_id
JOIN video_version AS own_version ON own_version.id = own.version_id
JOIN snapshot_example AS winner
    ON winner.snapshot_id = training_run.snapshot_id AND winner.video_id = rank.top_video_id
JOIN video_version AS top_version ON top_version.id = winner.version_id
WHERE rank.direction = 'thumbnail_to_title' AND rank.rank > 1
"""


def upgrade() -> None:
    for statement in (PAIRS, SYNC_HISTORY, RUN_HISTORY, RUN_ERRORS):
        op.execute(statement)


def downgrade() -> None:
    for view in ("run_errors", "run_history", "sync_history", "pairs"):
        op.execute(f"DROP VIEW {view}")
