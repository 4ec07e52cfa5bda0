"""``scriptservice list``: prints a table on a terminal, else tab-separated fields, or JSON."""

import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from scriptservice.cli.command_ids import short_id
from scriptservice.cli.options import AsJson, Label, Url, connect, key_values, print_json
from scriptservice.cli.progress_line import format_duration, mebibytes
from scriptservice.cli.terminal import printable
from scriptservice.client import Command

_TITLES = ("ID", "STATUS", "NAME", "LABELS", "HOST", "CREATED", "TOOK", "EXIT")
_STYLES = {
    "queued": "dim",
    "running": "blue",
    "stopping": "blue",
    "succeeded": "green",
    "failed": "red",
    "stopped": "yellow",
    "timed_out": "yellow",
    "lost": "magenta",
}


def list_commands(
    status: Annotated[list[str] | None, typer.Option(help="may be repeated")] = None,
    label: Label = None,
    text: Annotated[str | None, typer.Option("-q", "--text", help="part of name or script")] = None,
    host: Annotated[str | None, typer.Option(help="where it runs")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="at most that many")] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List commands, newest first."""
    with connect(url) as client:
        found = client.list(
            status=status,
            labels=key_values("--label", label),
            text=text,
            host=host,
            page_size=min(limit, 1000),
        )
        commands = list(islice(found, limit))
    if as_json:
        print_json([command.raw for command in commands])
    elif sys.stdout.isatty():
        _print_table(commands)
        _print_discarded(commands)
    else:
        for command in commands:
            print("\t".join(_cells(command)))


def _cells(command: Command) -> tuple[str, ...]:
    """Return the cells of a command's row, in the order of `_TITLES`."""
    labels = " ".join(f"{key}={value}" for key, value in command.labels.items())
    name = command.name or (command.script_preview or "").strip().partition("\n")[0][:40]
    cells = (
        short_id(command.id),
        str(command.status),
        printable(name),
        printable(labels),
        command.host or "",
        command.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        _run_time(command),
        _exit(command),
    )
    return tuple(cell or "-" for cell in cells)


def _run_time(command: Command) -> str:
    if command.started_at is None:
        return ""
    end = command.finished_at or datetime.now(UTC)
    return format_duration(max(0.0, (end - command.started_at).total_seconds()))


def _exit(command: Command) -> str:
    if command.exit_code is not None:
        return str(command.exit_code)
    return command.signal or ""


def _print_table(commands: list[Command]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in _TITLES:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for command in commands:
        cells = [Text(cell) for cell in _cells(command)]
        cells[1].stylize(_STYLES.get(command.status, ""))
        table.add_row(*cells)
    Console().print(table)


def _print_discarded(commands: list[Command]) -> None:
    """Print a line for each command whose output was cut at its output limit."""
    for command in commands:
        if discarded := command.output.get("discarded_bytes"):
            size = mebibytes(discarded)
            print(f"{short_id(command.id)}: {size} of output discarded, beyond the output limit")
