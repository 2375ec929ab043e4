"""An index to find a channel's last run of each status without reading its whole history.

Revision: 0006, after 0005.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_sync_run_channel_id_status_id", "sync_run", ["channel_id", "status", "id"])


def downgrade() -> None:
    op.drop_index("ix_sync_run_channel_id_status_id", "sync_run")
