"""The trace context of a command, as the client that submitted the command sent it.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. The previous release does not know the column, and leaves it empty."""
    op.add_column("inputs", sa.Column("traceparent", sa.String(255)))
