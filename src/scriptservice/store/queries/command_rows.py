"""The columns that make up a command, and the conversion of a row to a `Command`."""

import json
from typing import Any

from sqlalchemy import Row

from scriptservice.model import Command, OnOutputLimit, Outcome, Status, Submission, TerminalSize
from scriptservice.store.database.tables import commands, inputs

OUTCOME = [commands.c[name] for name in Outcome._fields]
_HEAD = [
    commands.c.number,
    commands.c.id,
    commands.c.status,
    commands.c.name,
    commands.c.host,
    commands.c.priority,
    commands.c.created_by,
    commands.c.rerun_of,
    commands.c.created_at,
    commands.c.interactive,
    commands.c.pty_rows,
    commands.c.pty_cols,
    *OUTCOME,
    inputs.c.interpreter,
    inputs.c.labels,
    inputs.c.working_directory,
    inputs.c.timeout_seconds,
    inputs.c.queue_timeout_seconds,
    inputs.c.grace_seconds,
    inputs.c.leftover_seconds,
    inputs.c.output_limit_bytes,
    inputs.c.on_output_limit,
    inputs.c.requested_host,
    inputs.c.stdin_bytes,
]
ITEM = [*_HEAD, commands.c.script_preview]
WITHOUT_SCRIPT = [*ITEM, inputs.c.args, inputs.c.env]
WHOLE = [*_HEAD, inputs.c.args, inputs.c.env, inputs.c.script, inputs.c.stdin, inputs.c.traceparent]
JOINED = commands.join(inputs, commands.c.number == inputs.c.number)
THERE = commands.c.deleted_at.is_(None)


def command_of(row: Row[Any]) -> Command:
    """Return the command in a row that has the columns of `WHOLE`, `WITHOUT_SCRIPT` or `ITEM`."""
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    stdin = values.get("stdin")
    submission = Submission(
        script=values.get("script", values.get("script_preview")),
        interpreter=tuple(json.loads(row.interpreter)),
        name=row.name,
        labels=json.loads(row.labels),
        args=tuple(json.loads(values.get("args", "[]"))),
        env=json.loads(values.get("env", "{}")),
        working_directory=row.working_directory,
        stdin=None if stdin is None else stdin.decode(),
        interactive=row.interactive,
        pty=None if row.pty_rows is None else TerminalSize(row.pty_rows, row.pty_cols),
        timeout_seconds=row.timeout_seconds,
        queue_timeout_seconds=row.queue_timeout_seconds,
        grace_seconds=row.grace_seconds,
        leftover_seconds=row.leftover_seconds,
        output_limit_bytes=row.output_limit_bytes,
        on_output_limit=OnOutputLimit(row.on_output_limit),
        priority=row.priority,
        host=row.requested_host,
    )
    return Command(
        number=row.number,
        id=row.id,
        submission=submission,
        status=Status(row.status),
        host=row.host,
        created_by=row.created_by,
        rerun_of=row.rerun_of,
        created_at=row.created_at,
        stdin_bytes=row.stdin_bytes,
        traceparent=values.get("traceparent"),
        outcome=Outcome(**{column.name: values[column.name] for column in OUTCOME}),
    )
