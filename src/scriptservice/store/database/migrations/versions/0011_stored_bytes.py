"""The size of a command's output as it is stored, for retention.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, without a value: the sizes of both streams count where there is none.

    The previous release does not know the column. It stores output as it was printed, so the sizes
    are right for the commands that it runs.
    """
    op.add_column("commands", sa.Column("stored_bytes", sa.BigInteger))
