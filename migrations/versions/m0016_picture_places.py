"""Thumbnails outside the database: the places that hold them, and which place holds each.

`picture.bytes` stays NOT NULL and is empty for a thumbnail elsewhere: making the column nullable would rewrite the
table, and with it every thumbnail, on SQLite.

Revision: 0016, after 0015.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "picture_place",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("mark", sa.Text(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_picture_place"),
        sa.UniqueConstraint("url", name="uq_picture_place_url"),
    )
    # Alembic would add the constraint separately, which SQLite can't.
    op.execute(
        "ALTER TABLE picture ADD COLUMN place_id INTEGER "
        "CONSTRAINT fk_picture_place_id_picture_place REFERENCES picture_place (id)"
    )
    op.execute("CREATE INDEX ix_picture_place_id_sha256 ON picture (place_id, sha256) WHERE place_id IS NOT NULL")


def downgrade() -> None:
    outside = op.get_bind().scalar(sa.text("SELECT COUNT(*) FROM picture WHERE place_id IS NOT NULL"))
    if outside:
        raise RuntimeError(f"{outside} thumbnails are outside the database; run 'thumbtune db move-pictures database'")
    op.execute("DROP INDEX ix_picture_place_id_sha256")
    with op.batch_alter_table("picture") as picture:
        picture.drop_column("place_id")
    op.drop_table("picture_place")
