"""Whether the Shorts playlist contains a video, and when a channel was last described.

Revision: 0010, after 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UTC_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("channel", sa.Column("described_at", UTC_TIME, nullable=True))
    op.add_column("video", sa.Column("in_shorts_list", sa.Boolean(), nullable=True))
    op.add_column("video", sa.Column("shorts_asked_at", UTC_TIME, nullable=True))


def downgrade() -> None:
    for column in ("shorts_asked_at", "in_shorts_list"):
        op.drop_column("video", column)
    op.drop_column("channel", "described_at")
