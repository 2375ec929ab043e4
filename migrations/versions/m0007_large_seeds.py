"""Room for every seed that may be given, up to 4294967295: PostgreSQL's `integer` ends at half of that.

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from migrations.versions.m0003_views import RUN_ERRORS
from migrations.versions.m0004_features_champions_sweeps import CHAMPIONS, RUN_HISTORY

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Those that read `training_run`: PostgreSQL changes no column that a view reads.
VIEWS = {"run_history": RUN_HISTORY, "run_errors": RUN_ERRORS, "champions": CHAMPIONS}

# SQLite's copy of the table would lose the names that 0004 wrote beside the columns.
NAMES = {"fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s"}


def upgrade() -> None:
    _change_seed(sa.Integer(), sa.BigInteger())


def downgrade() -> None:
    _change_seed(sa.BigInteger(), sa.Integer())


def _change_seed(old: sa.Integer, new: sa.Integer) -> None:
    for view in VIEWS:
        op.execute(f"DROP VIEW {view}")
    _tolerate_views("ON")
    with op.batch_alter_table("training_run", naming_convention=NAMES) as table:
        table.alter_column("seed", existing_type=old, type_=new, existing_nullable=False)
    _tolerate_views("OFF")
    for statement in VIEWS.values():
        op.execute(statement)


def _tolerate_views(switch: str) -> None:
    """Let SQLite rename the copy to the table below views of the user's own, or no longer."""
    # It would look through every view, and fail at those that rest on ours, or on the table, while these are gone.
    if op.get_bind().dialect.name == "sqlite":
        op.execute(f"PRAGMA legacy_alter_table = {switch}")
