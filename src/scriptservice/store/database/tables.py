"""The tables of the database. Times are microseconds since 1970 UTC, sizes are bytes.

``commands`` holds the fields that change while a command runs, and the fields by which lists
filter. ``inputs`` holds the submitted fields that may be large, so that a change of a command's
status never rewrites its script.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    bindparam,
    false,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from scriptservice.model import FINAL

metadata = MetaData()

ID_END_DIGITS = 8

_NUMBER = BigInteger().with_variant(Integer, "sqlite")

commands = Table(
    "commands",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("id", Uuid, nullable=False, unique=True),
    Column("status", String(10), nullable=False),
    Column("name", String(200)),
    Column("script_preview", String(200), nullable=False),
    Column("host", String(255)),
    Column("priority", SmallInteger, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("rerun_of", Uuid),
    Column("created_at", BigInteger, nullable=False),
    # These columns are not in `inputs`: a migration can only add columns behind the large ones
    # there, and lists need these.
    Column("interactive", Boolean, nullable=False, server_default=false()),
    Column("pty_rows", Integer),
    Column("pty_cols", Integer),
    # `dispatched_to` is the dispatch mark. The mark is committed before the command is sent to a
    # keeper, so that no command can run twice.
    Column("dispatched_to", String(255)),
    # These two columns describe a requested stop.
    Column("stop_signal", String(20)),
    Column("stop_grace_seconds", Float),
    # These columns hold the outcome, which comes from the keeper's journal.
    Column("started_at", BigInteger),
    Column("exited_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("exit_code", SmallInteger),
    Column("signal", String(20)),
    Column("reason", Text),
    Column("leftovers_killed", Integer, nullable=False),
    Column("stdout_bytes", BigInteger, nullable=False),
    Column("stderr_bytes", BigInteger, nullable=False),
    Column("discarded_bytes", BigInteger, nullable=False),
    Column("user_seconds", Float),
    Column("system_seconds", Float),
    Column("max_rss_bytes", BigInteger),
    # A deleted command is hidden at once; its output is removed step by step.
    Column("deleted_at", BigInteger),
    # These three columns are the concurrency key, see `store.queries.queueing.concurrency_keys`.
    Column("concurrency_key", String(200)),
    Column("concurrency_limit", SmallInteger),
    Column("when_busy", String(10)),
    # This is the command's reason if it becomes stopped; it is set if the service itself requested
    # the stop.
    Column("stop_reason", Text),
    # JSON, null if the command has no limits. A new column is the last one of a table, and the last
    # columns of `inputs` are expensive to reach. So this submitted field, which is small, is here.
    Column("limits", Text),
    # Size of the output as it is stored, for retention; null until this release stores output of
    # the command.
    Column("stored_bytes", BigInteger),
)
Index("commands_by_status", commands.c.status, commands.c.number)


class id_end(FunctionElement[str]):  # noqa: N801 - a function of SQL
    """The last `ID_END_DIGITS` hexadecimal digits of an id; the web page's list shows these digits.

    This is a function of SQL. An index of its values lets users find a command by these digits.
    """

    inherit_cache = True
    type = Text()


@compiles(id_end, "sqlite")
def _sqlite_id_end(element: Any, compiler: Any, **more: Any) -> str:
    (column,) = element.clauses
    return f"substr({compiler.process(column, **more)}, 25)"  # SQLite stores an id as 32 digits


@compiles(id_end, "postgresql")
def _postgresql_id_end(element: Any, compiler: Any, **more: Any) -> str:
    (column,) = element.clauses
    return f'"right"({compiler.process(column, **more)}::text, {ID_END_DIGITS})'


Index("commands_by_id_end", id_end(commands.c.id))
Index("commands_by_host", commands.c.host, commands.c.number)
Index("commands_by_time", commands.c.created_at)
# The two indexes below are partial on PostgreSQL too: the migrations create them there with the
# same conditions. This module gives the conditions for SQLite only. An argument
# ``postgresql_where`` would load the code for PostgreSQL in every server, which takes a twentieth
# of the time that a server needs to start.
Index(
    "commands_waiting",
    # The status is the same in all rows of this index, but the column is necessary. If this index
    # had no column that the query compares, SQLite would use the index of statuses instead, and
    # sort the rows.
    commands.c.status,
    commands.c.priority.desc(),
    commands.c.number,
    # With this column a walk skips commands whose key is busy without reading their rows.
    commands.c.concurrency_key,
    sqlite_where=(commands.c.status == "queued") & commands.c.dispatched_to.is_(None),
)

# Neither of the next two indexes has a row for a command without a concurrency key. The condition
# does not say which statuses are open, but which are final: SQLite would use the index of statuses
# instead for a query that compares the status with some values.
IS_OPEN_WITH_KEY = commands.c.concurrency_key.is_not(None) & commands.c.status.not_in(
    bindparam("final", sorted(FINAL), expanding=True, literal_execute=True)
)
Index(
    "commands_counted_by_key",
    commands.c.concurrency_key,
    commands.c.concurrency_limit,
    sqlite_where=IS_OPEN_WITH_KEY & commands.c.dispatched_to.is_not(None),
)
Index(
    "commands_waiting_by_key",
    commands.c.concurrency_key,
    commands.c.concurrency_limit,
    sqlite_where=IS_OPEN_WITH_KEY & commands.c.dispatched_to.is_(None),
)
Index(
    "commands_deleted",
    commands.c.number,
    sqlite_where=commands.c.deleted_at.is_not(None),
)

inputs = Table(
    "inputs",
    metadata,
    Column("number", _NUMBER, ForeignKey("commands.number"), primary_key=True, autoincrement=False),
    Column("interpreter", Text, nullable=False),
    Column("args", Text, nullable=False),
    Column("env", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("working_directory", Text),
    Column("timeout_seconds", Float),
    Column("queue_timeout_seconds", Float),
    Column("grace_seconds", Float, nullable=False),
    Column("leftover_seconds", Float, nullable=False),
    Column("output_limit_bytes", BigInteger),
    Column("on_output_limit", String(10), nullable=False),
    Column("requested_host", String(255)),
    Column("stdin_bytes", Integer, nullable=False),
    # SQLite reads a row from its beginning, so a column behind a large value is expensive to reach.
    # Therefore the large columns come last. Only `traceparent`, which a later migration added,
    # comes after them.
    Column("script", Text, nullable=False),
    Column("stdin", LargeBinary),
    Column("traceparent", String(255)),
)

labels = Table(
    "labels",
    metadata,
    Column("key", String(63), primary_key=True),
    Column("value", String(255), primary_key=True),
    Column("number", _NUMBER, ForeignKey("commands.number"), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
Index("labels_by_number", labels.c.number)

output = Table(
    "output",
    metadata,
    Column("number", _NUMBER, ForeignKey("commands.number"), primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("stream", SmallInteger, nullable=False),
    Column("stream_offset", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    # How `data` is stored: null as printed, 1 compressed with zstd. The other columns describe the
    # bytes as printed. SQLite needs no byte for either value, so this column costs nothing here,
    # behind the large one, where a migration has to add it.
    Column("compression", SmallInteger),
)
Index("output_by_stream", output.c.number, output.c.stream, output.c.stream_offset)

hosts = Table(
    "hosts",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("identity", String(255), nullable=False),
    Column("journal", String(36), nullable=False),
    Column("journal_position", BigInteger, nullable=False),
    Column("place", String(255), nullable=False),
    Column("version", String(50), nullable=False),
    Column("last_seen_at", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("scope", String(10), nullable=False),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("sha256", LargeBinary, primary_key=True),
    Column("token_sha256", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("token", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("command", Uuid, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("idempotency_keys_by_time", idempotency_keys.c.created_at)
