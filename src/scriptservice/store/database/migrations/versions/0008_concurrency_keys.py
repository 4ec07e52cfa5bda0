"""Adds concurrency keys: the columns, and indexes of the commands that have a key.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_OPEN_WITH_KEY = (
    "concurrency_key IS NOT NULL AND "
    "status NOT IN ('failed', 'lost', 'stopped', 'succeeded', 'timed_out')"
)


def upgrade() -> None:
    """Add the columns and indexes. The previous release can go on: it stores no keys."""
    op.add_column("commands", sa.Column("concurrency_key", sa.String(200)))
    op.add_column("commands", sa.Column("concurrency_limit", sa.SmallInteger))
    op.add_column("commands", sa.Column("when_busy", sa.String(10)))
    op.add_column("commands", sa.Column("stop_reason", sa.Text))
    op.drop_index("commands_waiting", "commands")
    _create_index(
        "commands_waiting",
        ["status", sa.text("priority DESC"), "number", "concurrency_key"],
        "status = 'queued' AND dispatched_to IS NULL",
    )
    for name, mark in (
        ("commands_counted_by_key", "dispatched_to IS NOT NULL"),
        ("commands_waiting_by_key", "dispatched_to IS NULL"),
    ):
        columns: list[str | sa.TextClause] = ["concurrency_key", "concurrency_limit"]
        _create_index(name, columns, f"{_OPEN_WITH_KEY} AND {mark}")


def _create_index(name: str, columns: list[str | sa.TextClause], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, "commands", columns, sqlite_where=where, postgresql_where=where)
