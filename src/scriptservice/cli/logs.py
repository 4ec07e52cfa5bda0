"""``scriptservice logs``: prints a command's output, and follows it with ``-f``."""

import base64
from collections.abc import Iterator
from typing import Annotated

import typer

from scriptservice.cli import terminal
from scriptservice.cli.command_ids import full_id
from scriptservice.cli.exit_codes import BROKEN_PIPE, INTERRUPTED, NOT_RUN, USAGE, fail
from scriptservice.cli.options import (
    FIRST_CONTACT_SECONDS,
    RETRY_SECONDS,
    AsJson,
    CommandId,
    Raw,
    Url,
    connect,
    duration_option,
    explain,
    print_how_to_go_on,
    print_json,
)
from scriptservice.cli.timestamps import chunks_of, stamped_output
from scriptservice.cli.units import parse_size
from scriptservice.client import Client
from scriptservice.client.problems import ConnectionLostError
from scriptservice.client.streams import chunk_json

STREAMS = ("stdout", "stderr", "merged")


def logs(
    command: CommandId,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="follow the output until the command ends")
    ] = False,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="print the time (UTC) in front of each line")
    ] = False,
    tail: Annotated[
        int | None, typer.Option(min=0, metavar="LINES", help="only this many lines at the end")
    ] = None,
    tail_bytes: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="only this many bytes at the end"),
    ] = None,
    stream: Annotated[
        str, typer.Option(metavar="STREAM", help="stdout, stderr or merged")
    ] = "merged",
    raw: Raw = False,
    retry_seconds: Annotated[
        float | None,
        duration_option(
            "how long to keep trying while the service does not answer; default 5m with -f, "
            "else 10s"
        ),
    ] = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Print the output of a command.

    With -f, follow the output until the command ends. Exit with 125 if the connection is lost and
    cannot be made again.
    """
    if tail is not None and tail_bytes is not None:
        raise fail("cannot use --tail and --tail-bytes together", USAGE)
    if timestamps and tail_bytes is not None:
        raise fail("cannot use --timestamps and --tail-bytes together; use --tail", USAGE)
    if timestamps and stream not in STREAMS:
        raise fail(f"cannot print stream {stream}: use stdout, stderr or merged", USAGE)
    if retry_seconds is None:
        retry_seconds = RETRY_SECONDS if follow else FIRST_CONTACT_SECONDS
    with connect(url, retry_seconds, FIRST_CONTACT_SECONDS) as client:
        command_id = full_id(client, command)
        try:
            if timestamps:
                _print_stamped(client, command_id, stream, tail, follow, raw, as_json)
                return
            wanted = None if tail is None else f"{tail}l"
            if tail_bytes is not None:
                wanted = str(tail_bytes)
            output = client.stream_output(command_id, stream=stream, tail=wanted, follow=follow)
            if as_json:
                _print_json_lines(stream, output)
            else:
                _print(output, raw=raw)
        except BrokenPipeError as error:
            terminal.discard_closed_pipes()
            raise typer.Exit(BROKEN_PIPE) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(INTERRUPTED) from error
        except ConnectionLostError as error:
            if not follow:
                raise
            lost = fail(explain(error), NOT_RUN)
            print_how_to_go_on(command_id)
            raise lost from error


def _print_stamped(
    client: Client,
    command_id: str,
    stream: str,
    tail: int | None,
    follow: bool,  # noqa: FBT001 - the options of the verb
    raw: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    chunks = chunks_of(client, command_id, stream, follow=follow)
    if as_json:
        for chunk, _ in chunks:
            print_json(chunk_json(chunk))
    else:
        _print(stamped_output(chunks, tail), raw=raw)


def _print(output: Iterator[bytes], *, raw: bool) -> None:
    sink = terminal.stdout(raw=raw)
    for data in output:
        sink.write(data)
    sink.write(b"", final=True)


def _print_json_lines(stream: str, output: Iterator[bytes]) -> None:
    for data in output:
        try:
            print_json({"stream": stream, "text": data.decode()})
        except UnicodeDecodeError:
            print_json({"stream": stream, "base64": base64.b64encode(data).decode()})
