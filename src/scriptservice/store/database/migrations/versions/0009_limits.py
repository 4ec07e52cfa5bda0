"""The limits of a command.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. The previous release does not know the column, and leaves it empty."""
    op.add_column("commands", sa.Column("limits", sa.Text))
