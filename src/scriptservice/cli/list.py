"""``scriptservice list``: prints a table on a terminal, else tab-separated fields, or JSON."""

import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from scriptservice.cli.command_ids import short_id
from scriptservice.cli.options import AsJson, Label, Url, connect, key_values, print_json
from scriptservice.cli.table import Column, print_rows
from scriptservice.cli.terminal import printable
from scriptservice.cli.units import format_duration, format_moment, format_size, parse_moment
from scriptservice.client import Command

STATUS_STYLES = {
    "queued": "dim",
    "running": "blue",
    "stopping": "blue",
    "succeeded": "green",
    "failed": "red",
    "stopped": "yellow",
    "timed_out": "yellow",
    "lost": "magenta",
}
COLUMNS = (
    Column("ID"),
    Column("STATUS", styles=STATUS_STYLES),
    Column("NAME", least=16, on_second_line=True),
    Column("LABELS", least=16, drop=2),
    Column("HOST", drop=1),
    Column("CREATED", drop=3),
    Column("TOOK"),
    Column("EXIT"),
)


def list_commands(
    status: Annotated[
        list[str] | None,
        typer.Option(metavar="STATUS", help="only commands with this status; may be repeated"),
    ] = None,
    label: Label = None,
    text: Annotated[
        str | None,
        typer.Option("-q", "--text", metavar="TEXT", help="part of the name or of the script"),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="only commands of this host")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            parser=parse_moment,
            metavar="TIME",
            help="submitted after this time: 2h for two hours ago, or 2026-11-23T16:20",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(parser=parse_moment, metavar="TIME", help="submitted before this time"),
    ] = None,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, metavar="NUMBER", help="list at most this many")
    ] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List commands, newest first.

    If the terminal is narrow, the table leaves out the host, the labels and the date, in this
    order.
    """
    with connect(url) as client:
        found = client.list(
            status=status,
            labels=key_values("--label", label),
            text=text,
            host=host,
            created_after=since,
            created_before=until,
            page_size=min(limit, 1000),
        )
        commands = list(islice(found, limit))
    if as_json:
        print_json([command.raw for command in commands])
        return
    is_filtered = any([status, label, text, host, since, until])
    if_empty = "No command matches." if is_filtered else "No commands yet."
    print_rows(COLUMNS, [_cells(command) for command in commands], if_empty=if_empty)
    if sys.stdout.isatty():
        _print_discarded(commands)


def _cells(command: Command) -> tuple[str, ...]:
    """Return the cells of a command's row, in the order of `COLUMNS`."""
    labels = " ".join(f"{key}={value}" for key, value in command.labels.items())
    name = command.name or (command.script_preview or "").strip().partition("\n")[0][:40]
    return (
        short_id(command.id),
        str(command.status),
        printable(name),
        printable(labels),
        command.host or "",
        format_moment(command.created_at),
        _run_time(command),
        _exit(command),
    )


def _run_time(command: Command) -> str:
    if command.started_at is None:
        return ""
    end = command.finished_at or datetime.now(UTC)
    return format_duration(max(0.0, (end - command.started_at).total_seconds()))


def _exit(command: Command) -> str:
    if command.exit_code is not None:
        return str(command.exit_code)
    return command.signal or ""


def _print_discarded(commands: list[Command]) -> None:
    """Print a line for each command whose output was cut at its output limit."""
    for command in commands:
        if discarded := command.output.get("discarded_bytes"):
            size = format_size(discarded)
            print(f"{short_id(command.id)}: {size} of output discarded, beyond the output limit")
