"""Adds the column that says how a chunk of output is stored.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and rewrite nothing: chunks without a value are stored as printed.

    The previous release does not know the column, and leaves it empty. It cannot read compressed
    chunks: the first one marks the database, see ``schema.mark_compressed_output``.
    """
    op.add_column("output", sa.Column("compression", sa.SmallInteger))
