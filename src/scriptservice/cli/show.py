"""``list``, ``show`` and ``logs``: what there is, one of it, and what it printed."""

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from scriptservice.cli import terminal
from scriptservice.cli.command_ids import SHORT, full_id
from scriptservice.cli.options import (
    USAGE,
    AsJson,
    Label,
    Url,
    explain,
    fail,
    pairs,
    print_json,
    service,
)
from scriptservice.cli.run import (
    FIRST_CONTACT_SECONDS,
    NOBODY_READS,
    NOT_RUN,
    RETRY_SECONDS,
    say_how_to_go_on,
)
from scriptservice.cli.waiting_line import duration
from scriptservice.client import Command
from scriptservice.client.problems import ConnectionLostError

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
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="at most so many")] = 20,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List commands, newest first."""
    with service(url) as client:
        found = client.list(
            status=status,
            labels=pairs("--label", label),
            text=text,
            host=host,
            page_size=min(limit, 1000),
        )
        commands = list(islice(found, limit))
    if as_json:
        print_json([command.raw for command in commands])
    elif sys.stdout.isatty():
        _table(commands)
    else:
        for command in commands:
            print("\t".join(_cells(command)))


def _cells(command: Command) -> tuple[str, ...]:
    labels = " ".join(f"{key}={value}" for key, value in command.labels.items())
    name = command.name or (command.script_preview or "").strip().partition("\n")[0][:40]
    cells = (
        command.id[-SHORT:],
        str(command.status),
        _printable(name),
        _printable(labels),
        command.host or "",
        command.created_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        _took(command),
        _ended(command),
    )
    return tuple(cell or "-" for cell in cells)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _took(command: Command) -> str:
    if command.started_at is None:
        return ""
    end = command.finished_at or datetime.now(UTC)
    return duration(max(0.0, (end - command.started_at).total_seconds()))


def _ended(command: Command) -> str:
    if command.exit_code is not None:
        return str(command.exit_code)
    return command.signal or ""


def _table(commands: list[Command]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("ID", "STATUS", "NAME", "LABELS", "HOST", "CREATED", "TOOK", "EXIT"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for command in commands:
        cells = [Text(cell) for cell in _cells(command)]
        cells[1].stylize(_STYLES.get(command.status, ""))
        table.add_row(*cells)
    Console().print(table)


def show(
    command: Annotated[str, typer.Argument(help="an id, or its beginning or end")],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show one command, whole."""
    with service(url) as client:
        found = client.get(full_id(client, command))
    if as_json:
        print_json(found.raw)
        return
    for name, value in found.raw.items():
        if name != "script" and value not in (None, {}, [], ""):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            print(f"{name:<22} {_printable(text)}")
    print("script")
    for line in (found.script or "").splitlines():
        print(f"    {_printable(line)}")


def logs(
    command: Annotated[str, typer.Argument(help="an id, or its beginning or end")],
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on until it ends")] = False,
    tail: Annotated[int | None, typer.Option(min=0, metavar="LINES", help="the last lines")] = None,
    tail_bytes: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="the last bytes")
    ] = None,
    stream: Annotated[str, typer.Option(help="stdout, stderr or merged")] = "merged",
    raw: Annotated[bool, typer.Option("--raw", help="let escape sequences through")] = False,
    retry_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="seconds to go on while nothing is heard of the service; default 300 with -f, "
            "else 10",
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Print what a command has printed.

    With -f, exits 125 if the connection is lost for good.
    """
    if tail is not None and tail_bytes is not None:
        raise fail("cannot use --tail and --tail-bytes together", USAGE)
    wanted = None if tail is None else f"{tail}l"
    if tail_bytes is not None:
        wanted = str(tail_bytes)
    sink = terminal.stdout(raw=raw)
    if retry_seconds is None:
        retry_seconds = RETRY_SECONDS if follow else FIRST_CONTACT_SECONDS
    with service(url, retry_seconds, FIRST_CONTACT_SECONDS) as client:
        command_id = full_id(client, command)
        parts = client.stream_output(command_id, stream=stream, tail=wanted, follow=follow)
        try:
            if as_json:
                _print_json_parts(stream, parts)
                return
            for part in parts:
                sink.write(part)
            sink.write(b"", final=True)
        except BrokenPipeError as error:
            terminal.nobody_reads()
            raise typer.Exit(NOBODY_READS) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(130) from error
        except ConnectionLostError as error:
            if not follow:
                raise
            lost = fail(explain(error), NOT_RUN)
            say_how_to_go_on(command_id)
            raise lost from error


def _print_json_parts(stream: str, parts: Iterator[bytes]) -> None:
    import base64

    for part in parts:
        try:
            print_json({"stream": stream, "text": part.decode()})
        except UnicodeDecodeError:
            print_json({"stream": stream, "base64": base64.b64encode(part).decode()})
