"""Adds an index by the ends of ids. The list shows only these ends, so users search by them.

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
    """Create the index. The database also updates the index when the previous release writes."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    end = "substr(id, 25)" if sqlite else '"right"(id::text, 8)'
    op.create_index("commands_by_id_end", "commands", [sa.text(end)])
