"""Commands are found by the end of their id, which is what lists show of it.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index; the release before keeps it up to date without knowing of it."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    end = "substr(id, 25)" if sqlite else '"right"(id::text, 8)'
    op.create_index("commands_by_id_end", "commands", [sa.text(end)])
