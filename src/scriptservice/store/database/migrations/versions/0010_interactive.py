"""Whether a command takes input while it runs, and the size of its terminal.

Revision ID: 0010
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. The previous release does not know them, so its commands take no input."""
    interactive = sa.Column("interactive", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("commands", interactive)
    op.add_column("commands", sa.Column("pty_rows", sa.Integer))
    op.add_column("commands", sa.Column("pty_cols", sa.Integer))
