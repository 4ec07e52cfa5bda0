"""``scriptservice run``: feels like running it here, and closing the laptop loses nothing."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from scriptservice.cli import terminal
from scriptservice.cli.command_ids import SHORT
from scriptservice.cli.options import USAGE, AsJson, Label, Url, explain, fail, pairs, print_json
from scriptservice.cli.waiting_line import ElapsedLine
from scriptservice.client import Chunk, Client, Command
from scriptservice.client.follow import chunk_json
from scriptservice.client.problems import ClientError, ConnectionLostError
from scriptservice.model import Status, signal_number

FIRST_CONTACT_SECONDS = 10.0
"""A service that was never there is told after this; one that was is waited for."""
RETRY_SECONDS = 300.0
STOP_SECONDS = 3.0

TIMED_OUT = 124
NOT_RUN = 125
SIGNALLED = 128
INTERRUPTED = 130
NOBODY_READS = 141


def run(
    script: Annotated[str | None, typer.Argument(help="the script's text")] = None,
    args: Annotated[list[str] | None, typer.Argument(help="its arguments, after --")] = None,
    file: Annotated[
        str | None, typer.Option("-f", "--file", help="read the script from a file; - for stdin")
    ] = None,
    name: Annotated[str | None, typer.Option(help="for people")] = None,
    label: Label = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="may be repeated")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="seconds from its start to a stop")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="print only its id")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="let escape sequences through")] = False,
    retry_seconds: Annotated[
        float, typer.Option(min=0, help="seconds to go on while nothing is heard of the service")
    ] = RETRY_SECONDS,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Submit a script, follow it, and exit as it does.

    stdout goes to stdout, stderr to stderr. Exits with the script's exit code, 128 + signal, 124
    timed out, 125 not run, lost, or connection lost. Ctrl-C stops the command; a second one
    leaves it.
    """
    words = list(args or [])
    if file is not None and script is not None:
        words.insert(0, script)  # with -f the first word after -- is an argument already
    text = _script(file, script)
    fields: dict[str, Any] = {
        "name": name,
        "labels": pairs("--label", label),
        "env": pairs("--env", env),
        "args": words,
        "timeout_seconds": timeout,
    }
    given = {key: value for key, value in fields.items() if value not in (None, {}, [])}
    try:
        with Client(
            url, retry_seconds=retry_seconds, first_contact_seconds=FIRST_CONTACT_SECONDS
        ) as client:
            command = client.submit(text, **given)
            if detach:
                print_json(command.raw) if as_json else print(command.id)
                return
            code = _Run(client, command, raw=raw, as_json=as_json).to_its_end()
    except ClientError as error:
        raise fail(explain(error), NOT_RUN) from error
    raise typer.Exit(code)


def say_how_to_go_on(command_id: str) -> None:
    """Print to stderr how to follow a command that was left."""
    print(f"to go on: scriptservice logs -f {command_id}", file=sys.stderr)


def _script(file: str | None, script: str | None) -> str:
    if file is None:
        if script is None:
            raise fail("cannot run nothing: give a script, or -f FILE", USAGE)
        with suppress(OSError, ValueError):
            if Path(script).is_file():
                hint = f"{script} is a file; to run its content: scriptservice run -f {script}"
                print(f"scriptservice: hint: {hint}", file=sys.stderr)
        return script
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return content.decode()
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}", USAGE) from error
    except UnicodeDecodeError as error:
        raise fail(f"cannot run {file}: it is not UTF-8", USAGE) from error


class _Run:
    """One command that is followed to its end."""

    def __init__(self, client: Client, command: Command, *, raw: bool, as_json: bool) -> None:
        self._client = client
        self._command = command
        self._as_json = as_json
        self._sinks = {"stdout": terminal.stdout(raw=raw), "stderr": terminal.stderr(raw=raw)}
        self._interrupts = 0
        self._stopping: threading.Thread | None = None
        self._line = ElapsedLine(f"running {command.id[-SHORT:]}")

    def to_its_end(self) -> int:
        """Follow it; return the exit code of this program."""
        try:
            with self._interruptible(), self._line:
                final = self._follow()
        except KeyboardInterrupt:
            if self._stopping is not None:  # what the first one asked for is still to be said
                self._stopping.join(STOP_SECONDS)
            self._say("left it running", how_to_go_on=True)
            return INTERRUPTED
        except BrokenPipeError:
            terminal.nobody_reads()
            self._say("nobody reads its output any more; it goes on", how_to_go_on=True)
            return NOBODY_READS
        except ConnectionLostError as error:
            self._say(explain(error), how_to_go_on=True)
            return NOT_RUN
        if self._as_json:
            print_json(final.raw)
        if self._interrupts:
            return INTERRUPTED
        return self._exit_code(final)

    def _follow(self) -> Command:
        following = self._client.follow(self._command.id)
        for chunk in following:
            self._write(chunk)
        for sink in self._sinks.values():
            sink.write(b"", final=True)
        return following.command or self._client.get(self._command.id)

    def _write(self, chunk: Chunk) -> None:
        self._line.quiet = True
        self._line.clear()
        if self._as_json:
            print_json(chunk_json(chunk))
        else:
            self._sinks[chunk.stream].write(chunk.data)
        self._line.quiet = not all(sink.at_line_start for sink in self._sinks.values())

    def _exit_code(self, command: Command) -> int:
        if command.status is Status.TIMED_OUT and command.started_at is not None:
            self._say(command.reason or "timed out")
            return TIMED_OUT
        never_ran = command.started_at is None
        if command.status is Status.LOST or never_ran:
            self._say(f"{command.status}: {command.reason or 'it did not run'}")
            return TIMED_OUT if command.status is Status.TIMED_OUT else NOT_RUN
        if command.exit_code is not None:
            return command.exit_code
        if command.signal is not None:
            return SIGNALLED + signal_number(command.signal)
        return NOT_RUN

    def _say(self, text: str, *, how_to_go_on: bool = False) -> None:
        self._line.clear()
        print(f"scriptservice: {text}", file=sys.stderr)
        if how_to_go_on:
            say_how_to_go_on(self._command.id)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C stop the command, and the second one leave it."""

        def interrupted(*_: object) -> None:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
            # Elsewhere: the signal may have come in the middle of whatever this thread is at.
            self._stopping = threading.Thread(target=self._stop, daemon=True)
            self._stopping.start()
            # Last: a second one may follow at once, and ends this handler where it is.
            os.write(2, b"\nscriptservice: stopping it; Ctrl-C again leaves it\n")

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self) -> None:
        with suppress(ClientError), Client(self._client.url) as client:
            client.stop(self._command.id)
