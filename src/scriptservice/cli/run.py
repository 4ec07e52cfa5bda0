"""``scriptservice run``: submits a script and follows it as if it ran in this terminal.

The script runs in the service. If this program or the connection ends, the script continues, and
``scriptservice logs -f`` shows the rest of the output.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from scriptservice.cli import terminal
from scriptservice.cli.command_ids import short_id
from scriptservice.cli.exit_codes import (
    BROKEN_PIPE,
    INTERRUPTED,
    NOT_RUN,
    SIGNALLED,
    TIMED_OUT,
    USAGE,
    fail,
)
from scriptservice.cli.options import (
    FIRST_CONTACT_SECONDS,
    RETRY_SECONDS,
    AsJson,
    Label,
    Raw,
    Url,
    explain,
    key_values,
    print_how_to_go_on,
    print_json,
)
from scriptservice.cli.progress_line import ElapsedLine
from scriptservice.client import Chunk, Client, Command
from scriptservice.client.problems import ClientError, ConnectionLostError
from scriptservice.client.streams import chunk_json
from scriptservice.client.types import SubmitFields
from scriptservice.model import Status, signal_number

STOP_SECONDS = 3.0
"""The longest time that the program waits after a second Ctrl-C. The program waits until the stop
request of the first Ctrl-C has been sent.
"""


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
    detach: Annotated[bool, typer.Option("--detach", help="print the id and exit")] = False,
    raw: Raw = False,
    retry_seconds: Annotated[
        float, typer.Option(min=0, help="seconds to keep trying while the service does not answer")
    ] = RETRY_SECONDS,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Submit a script, print its output, and exit with its exit code.

    The script's stdout goes to stdout, and its stderr goes to stderr. Other exit codes: 128 + N if
    signal N ended the script, 124 if it timed out, 125 if it did not run, was lost, or the
    connection was lost. Ctrl-C stops the command. A second Ctrl-C exits without waiting for the
    command's end.
    """
    words = list(args or [])
    if file is not None and script is not None:
        words.insert(0, script)  # with -f, all words are arguments of the script
    text = _read_script(file, script)
    fields: SubmitFields = {}
    if name is not None:
        fields["name"] = name
    if label:
        fields["labels"] = key_values("--label", label)
    if env:
        fields["env"] = key_values("--env", env)
    if words:
        fields["args"] = words
    if timeout is not None:
        fields["timeout_seconds"] = timeout
    try:
        with Client(
            url, retry_seconds=retry_seconds, first_contact_seconds=FIRST_CONTACT_SECONDS
        ) as client:
            command = client.submit(text, **fields)
            if detach:
                print_json(command.raw) if as_json else print(command.id)
                return
            code = _FollowedRun(client, command, raw=raw, as_json=as_json).follow_to_end()
    except ClientError as error:
        raise fail(explain(error), NOT_RUN) from error
    raise typer.Exit(code)


def _read_script(file: str | None, script: str | None) -> str:
    """Return the script's text, from the command line, a file or stdin.

    Raises:
        typer.Exit: there is no script, or the file cannot be read.
    """
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


class _FollowedRun:
    """A command that this program follows to the command's end."""

    def __init__(self, client: Client, command: Command, *, raw: bool, as_json: bool) -> None:
        self._client = client
        self._command = command
        self._as_json = as_json
        self._sinks = {"stdout": terminal.stdout(raw=raw), "stderr": terminal.stderr(raw=raw)}
        self._interrupts = 0
        self._stopping: threading.Thread | None = None
        self._line = ElapsedLine(f"running {short_id(command.id)}")

    def follow_to_end(self) -> int:
        """Follow the command to its end; return the exit code of this program."""
        try:
            with self._interruptible(), self._line:
                final = self._follow()
        except KeyboardInterrupt:
            if self._stopping is not None:  # The first Ctrl-C's stop request may not be sent yet.
                self._stopping.join(STOP_SECONDS)
            self._report("stopped waiting for the command", how_to_go_on=True)
            return INTERRUPTED
        except BrokenPipeError:
            terminal.discard_stdout()
            self._report("nobody reads its output any more; it goes on", how_to_go_on=True)
            return BROKEN_PIPE
        except ConnectionLostError as error:
            self._report(explain(error), how_to_go_on=True)
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
        self._line.paused = True
        self._line.clear()
        if self._as_json:
            print_json(chunk_json(chunk))
        else:
            self._sinks[chunk.stream].write(chunk.data)
        self._line.paused = not all(sink.at_line_start for sink in self._sinks.values())

    def _exit_code(self, command: Command) -> int:
        if command.status is Status.TIMED_OUT and command.started_at is not None:
            self._report(command.reason or "timed out")
            return TIMED_OUT
        never_ran = command.started_at is None
        if command.status is Status.LOST or never_ran:
            self._report(f"{command.status}: {command.reason or 'it did not run'}")
            return TIMED_OUT if command.status is Status.TIMED_OUT else NOT_RUN
        if command.exit_code is not None:
            return command.exit_code
        if command.signal is not None:
            return SIGNALLED + signal_number(command.signal)
        return NOT_RUN

    def _report(self, text: str, *, how_to_go_on: bool = False) -> None:
        self._line.clear()
        print(f"scriptservice: {text}", file=sys.stderr)
        if how_to_go_on:
            print_how_to_go_on(self._command.id)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Make the first Ctrl-C stop the command, and the second Ctrl-C end this program."""

        def interrupted(*_: object) -> None:
            self._interrupts += 1
            if self._interrupts > 1:
                raise KeyboardInterrupt
            # Send the request in another thread. The signal may have interrupted this thread
            # inside the HTTP client, which is not reentrant.
            self._stopping = threading.Thread(target=self._stop, daemon=True)
            self._stopping.start()
            # Print only after the thread has started. A second Ctrl-C may arrive at once, and its
            # exception ends this handler.
            os.write(
                2,
                b"\nscriptservice: stopping the command; press Ctrl-C again to stop waiting\n",
            )

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self) -> None:
        with suppress(ClientError), Client(self._client.url) as client:
            client.stop(self._command.id)
