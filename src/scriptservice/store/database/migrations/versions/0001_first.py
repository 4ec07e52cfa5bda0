"""The first schema: commands, inputs, labels, output, hosts, tokens.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _number(*, key: bool = True) -> sa.Column[int]:
    return sa.Column(
        "number", _NUMBER, sa.ForeignKey("commands.number"), primary_key=key, autoincrement=False
    )


def upgrade() -> None:
    """Create all tables."""
    _commands()
    op.create_table(
        "inputs",
        _number(),
        sa.Column("interpreter", sa.Text, nullable=False),
        sa.Column("args", sa.Text, nullable=False),
        sa.Column("env", sa.Text, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("working_directory", sa.Text),
        sa.Column("timeout_seconds", sa.Float),
        sa.Column("queue_timeout_seconds", sa.Float),
        sa.Column("grace_seconds", sa.Float, nullable=False),
        sa.Column("leftover_seconds", sa.Float, nullable=False),
        sa.Column("output_limit_bytes", sa.BigInteger),
        sa.Column("on_output_limit", sa.String(10), nullable=False),
        sa.Column("requested_host", sa.String(255)),
        sa.Column("stdin_bytes", sa.Integer, nullable=False),
        sa.Column("script", sa.Text, nullable=False),
        sa.Column("stdin", sa.LargeBinary),
    )
    op.create_table(
        "labels",
        sa.Column("key", sa.String(63), primary_key=True),
        sa.Column("value", sa.String(255), primary_key=True),
        _number(),
        sqlite_with_rowid=False,
    )
    op.create_index("labels_by_number", "labels", ["number"])
    op.create_table(
        "output",
        _number(),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.SmallInteger, nullable=False),
        sa.Column("stream_offset", sa.BigInteger, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_index("output_by_stream", "output", ["number", "stream", "stream_offset"])
    op.create_table(
        "hosts",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("identity", sa.String(255), nullable=False),
        sa.Column("journal", sa.String(36), nullable=False),
        sa.Column("journal_position", sa.BigInteger, nullable=False),
        sa.Column("place", sa.String(255), nullable=False),
        sa.Column("version", sa.String(50), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("scope", sa.String(10), nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )


def _commands() -> None:
    op.create_table(
        "commands",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Uuid, nullable=False, unique=True),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("name", sa.String(200)),
        sa.Column("script_preview", sa.String(200), nullable=False),
        sa.Column("host", sa.String(255)),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("rerun_of", sa.Uuid),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("dispatched_to", sa.String(255)),
        sa.Column("stop_signal", sa.String(20)),
        sa.Column("stop_grace_seconds", sa.Float),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("exited_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("exit_code", sa.SmallInteger),
        sa.Column("signal", sa.String(20)),
        sa.Column("reason", sa.Text),
        sa.Column("leftovers_killed", sa.Integer, nullable=False),
        sa.Column("stdout_bytes", sa.BigInteger, nullable=False),
        sa.Column("stderr_bytes", sa.BigInteger, nullable=False),
        sa.Column("discarded_bytes", sa.BigInteger, nullable=False),
        sa.Column("user_seconds", sa.Float),
        sa.Column("system_seconds", sa.Float),
        sa.Column("max_rss_bytes", sa.BigInteger),
        sa.Column("deleted_at", sa.BigInteger),
    )
    op.create_index("commands_by_status", "commands", ["status", "number"])
    op.create_index("commands_by_host", "commands", ["host", "number"])
    op.create_index("commands_by_time", "commands", ["created_at"])
    waiting = sa.text("status = 'queued' AND dispatched_to IS NULL")
    op.create_index(
        "commands_waiting",
        "commands",
        [sa.text("priority DESC"), "number"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    deleted = sa.text("deleted_at IS NOT NULL")
    op.create_index(
        "commands_deleted", "commands", ["number"], sqlite_where=deleted, postgresql_where=deleted
    )
