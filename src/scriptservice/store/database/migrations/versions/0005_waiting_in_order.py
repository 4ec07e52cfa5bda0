"""Adds a column to the index of waiting commands.

With this column SQLite reads the waiting commands from the index, already in the right order.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Recreate the index. The previous release can go on, because it never used this index."""
    op.drop_index("commands_waiting", "commands")
    waiting = sa.text("status = 'queued' AND dispatched_to IS NULL")
    op.create_index(
        "commands_waiting",
        "commands",
        ["status", sa.text("priority DESC"), "number"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
