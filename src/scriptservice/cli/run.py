"""``scriptservice run``: submits a script and follows it as if it ran in this terminal.

The script runs in the service. If this program or the connection ends, the script continues, and
``scriptservice logs -f`` shows the rest of the output.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Annotated, Literal, cast

import typer

from scriptservice.cli import terminal
from scriptservice.cli.attached_terminal import AttachedTerminal
from scriptservice.cli.command_ids import short_id
from scriptservice.cli.exit_codes import (
    BROKEN_PIPE,
    INTERRUPTED,
    NOT_RUN,
    USAGE,
    fail,
)
from scriptservice.cli.input_feeder import InputFeeder
from scriptservice.cli.options import (
    FIRST_CONTACT_SECONDS,
    RETRY_SECONDS,
    AsJson,
    Label,
    Raw,
    RetrySeconds,
    Url,
    connect,
    duration_option,
    explain,
    key_values,
    print_how_to_go_on,
    print_json,
)
from scriptservice.cli.outcome import exit_code_of
from scriptservice.cli.progress_line import ElapsedLine
from scriptservice.cli.raw_mode import window_size
from scriptservice.cli.submission import (
    concurrency_fields,
    parse_words,
    read_script,
    read_stdin_text,
    say_if_a_pipe_is_ignored,
)
from scriptservice.cli.units import format_size, parse_size, parse_size_limit
from scriptservice.client import Chunk, Client, Command
from scriptservice.client.problems import AlreadyFinishedError, ClientError, ConnectionLostError
from scriptservice.client.streams import chunk_json
from scriptservice.client.types import SubmitFields

STOP_SECONDS = 3.0
"""After a second Ctrl-C, the program waits until the first Ctrl-C's stop request has been sent. It
waits at most for this time.
"""


def run(
    script: Annotated[
        str | None, typer.Argument(metavar="SCRIPT", help="text of the script")
    ] = None,
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENT...", help="arguments of the script, after --"),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "-f", "--file", metavar="FILE", help="read the script from a file; - for standard input"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="display name")] = None,
    label: Label = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="an environment variable; may be repeated"),
    ] = None,
    working_directory: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="where the script runs; private for an empty directory of its own"
        ),
    ] = None,
    stdin: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="send a file to the script's standard input; - for what is piped in",
        ),
    ] = None,
    interactive: Annotated[
        bool,
        typer.Option(
            "-i",
            "--interactive",
            help="send standard input while the script runs; on a terminal, the script gets a "
            "terminal too",
        ),
    ] = False,
    interpreter: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            help="program that runs the script, with its arguments; default: the script's #! line, "
            "or /bin/bash",
        ),
    ] = None,
    timeout: Annotated[float | None, duration_option("stop the command after this time")] = None,
    queue_timeout: Annotated[
        float | None, duration_option("end the command if it has not started after this time")
    ] = None,
    grace: Annotated[
        float | None, duration_option("time from a stop's signal to SIGKILL; default 10s")
    ] = None,
    leftover: Annotated[
        float | None,
        duration_option("time that background processes get after the script's end; default 2s"),
    ] = None,
    output_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="limit of the output, such as 10M or 2G; none for no limit",
        ),
    ] = None,
    on_output_limit: Annotated[
        Literal["discard", "stop"] | None,
        typer.Option(metavar="discard|stop", help="what to do beyond the limit; default discard"),
    ] = None,
    cpu_limit: Annotated[
        float | None, duration_option("CPU time that each process may use")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="memory that all processes may use together, such as 512M"
        ),
    ] = None,
    process_limit: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="processes and threads that may exist at a time"),
    ] = None,
    open_files_limit: Annotated[
        int | None, typer.Option(metavar="NUMBER", help="files that each process may have open")
    ] = None,
    nice: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="0 to 19; lowers the priority of the processes"),
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", help="-100 to 100; queued commands with a higher one start first"
        ),
    ] = None,
    concurrency_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="limit how many commands with this key run at a time"),
    ] = None,
    concurrency_limit: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", help="how many may run at a time; default 1"),
    ] = None,
    when_busy: Annotated[
        Literal["queue", "reject", "replace"] | None,
        typer.Option(
            metavar="queue|reject|replace",
            help="if that many run: wait, give up, or stop others of the key; default queue",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="NAME", help="host that must run the command")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="print the id and exit; the command continues")
    ] = False,
    keep_running: Annotated[
        bool,
        typer.Option("--keep-running", help="do not stop the command if the output pipe is closed"),
    ] = False,
    raw: Raw = False,
    retry_seconds: RetrySeconds = None,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Submit a script, print its output, and exit with its exit code.

    The script's stdout goes to stdout, and its stderr goes to stderr. Other exit codes: 128 + N if
    signal N ended the script, 124 if it timed out, 125 if it did not run, if it was lost, or if the
    connection was lost. Ctrl-C stops the command and exits with 130; a second Ctrl-C exits without
    waiting for the command's end. With -i on a terminal, all keys go to the script, also Ctrl-C,
    and Ctrl-] detaches. If the reader of the output pipe goes away, the command is
    stopped and the exit code is 141.
    """
    if file == "-" and (stdin == "-" or interactive):
        raise fail("cannot read both the script and its input from standard input", USAGE)
    if stdin == "-" and interactive:
        raise fail("cannot send standard input twice: use either -i or --stdin -", USAGE)
    words = list(args or [])
    if file is not None and script is not None:
        words.insert(0, script)  # with -f, all words are arguments of the script
    text = read_script(file, script)
    limits = {
        "cpu_seconds": cpu_limit,
        "memory_bytes": None if memory_limit is None else parse_size(memory_limit),
        "processes": process_limit,
        "open_files": open_files_limit,
        "nice": nice,
    }
    given = {
        "name": name,
        "labels": key_values("--label", label) if label else None,
        "interpreter": parse_words(interpreter) if interpreter is not None else None,
        "args": words or None,
        "env": key_values("--env", env) if env else None,
        "working_directory": working_directory,
        "stdin": read_stdin_text(stdin) if stdin is not None else None,
        "timeout_seconds": timeout,
        "queue_timeout_seconds": queue_timeout,
        "grace_seconds": grace,
        "leftover_seconds": leftover,
        "on_output_limit": on_output_limit,
        "limits": {name: each for name, each in limits.items() if each is not None} or None,
        "priority": priority,
        "concurrency": concurrency_fields(concurrency_key, concurrency_limit, when_busy),
        "host": host,
    }
    # The service has defaults for fields that are left out.
    fields = cast("SubmitFields", {key: each for key, each in given.items() if each is not None})
    if output_limit is not None:
        fields["output_limit_bytes"] = parse_size_limit(output_limit)
    has_pty = interactive and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    if has_pty:
        rows, cols = window_size() or (24, 80)
        fields["pty"] = {"rows": rows, "cols": cols}
        # Programs that draw on the screen need to know the kind of terminal.
        kind = os.environ.get("TERM") or "xterm-256color"
        fields["env"] = {"TERM": kind, **(fields.get("env") or {})}
    elif interactive:
        fields["interactive"] = True
    elif stdin is None and file != "-":
        say_if_a_pipe_is_ignored()
    patience = RETRY_SECONDS if retry_seconds is None else retry_seconds
    with connect(url, patience, FIRST_CONTACT_SECONDS, exit_code=NOT_RUN) as client:
        command = client.submit(text, **fields)
        if detach:
            print_json(command.raw) if as_json else print(command.id)
            return
        followed = _FollowedRun(
            client,
            command,
            raw=raw or has_pty,
            as_json=as_json,
            keep_running=keep_running,
            shows_progress=not interactive,
        )
        if has_pty:
            with suppress(AlreadyFinishedError):  # it ended before this program attached
                attached = AttachedTerminal(client, command.id, after=0, has_pty=True)
                raise typer.Exit(attached.attend())
        elif interactive:
            InputFeeder(client.url, command.id, patience).start()
        code = followed.follow_to_end()
    raise typer.Exit(code)


class _FollowedRun:
    """A command that this program follows to the command's end."""

    def __init__(
        self,
        client: Client,
        command: Command,
        *,
        raw: bool,
        as_json: bool,
        keep_running: bool,
        shows_progress: bool,
    ) -> None:
        self._client = client
        self._command = command
        self._as_json = as_json
        self._keep_running = keep_running
        self._shows_progress = shows_progress
        self._sinks = {"stdout": terminal.stdout(raw=raw), "stderr": terminal.stderr(raw=raw)}
        self._interrupts = 0
        self._stopping: threading.Thread | None = None
        self._line = ElapsedLine(f"running {short_id(command.id)}")

    def follow_to_end(self) -> int:
        """Follow the command to its end; return the exit code of this program."""
        try:
            with self._interruptible(), self._line if self._shows_progress else nullcontext():
                try:
                    final = self._follow()
                    if self._as_json:
                        print_json(final.raw)
                except BrokenPipeError:
                    return self._output_closed()
        except KeyboardInterrupt:
            if self._stopping is not None:  # The first Ctrl-C's stop request may not be sent yet.
                self._stopping.join(STOP_SECONDS)
            self._report("Detached; the command is being stopped", how_to_go_on=True)
            return INTERRUPTED
        except ConnectionLostError as error:
            self._report(explain(error), how_to_go_on=True)
            return NOT_RUN
        discarded, limit = final.output.get("discarded_bytes", 0), final.output_limit_bytes
        if discarded and limit is not None:
            sizes = f"limit of {format_size(limit)} reached; {format_size(discarded)} discarded"
            self._report(f"Output {sizes}; choose another limit with --output-limit")
        if self._interrupts:
            return INTERRUPTED
        return exit_code_of(final)

    def _follow(self) -> Command:
        following = self._client.follow(self._command.id)
        for chunk in following:
            self._write(chunk)
        for sink in self._sinks.values():
            sink.write(b"", final=True)
        return following.command or self._client.get(self._command.id)

    def _output_closed(self) -> int:
        """Stop the command and wait for its end, because nobody reads its output any more.

        With ``--keep-running``, only say that the command is still running.

        Returns:
            The exit code of this program.
        """
        terminal.discard_closed_pipes()
        if self._keep_running:
            self._report("Output pipe closed; the command is still running", how_to_go_on=True)
            return BROKEN_PIPE
        self._line.text = f"stopping {short_id(self._command.id)}"
        self._line.paused = False
        with suppress(AlreadyFinishedError):
            self._client.stop(self._command.id)
        self._client.wait(self._command.id)
        return BROKEN_PIPE

    def _write(self, chunk: Chunk) -> None:
        self._line.paused = True
        self._line.clear()
        if self._as_json:
            print_json(chunk_json(chunk))
        else:
            self._sinks[chunk.stream].write(chunk.data)
        self._line.paused = not all(sink.at_line_start for sink in self._sinks.values())

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
            self._line.text = f"stopping {short_id(self._command.id)}"
            self._stopping = threading.Thread(target=self._stop, daemon=True)
            self._stopping.start()
            # Print only after the thread has started. A second Ctrl-C may arrive at once, and its
            # exception ends this handler.
            os.write(
                2,
                "\nscriptservice: Stopping… press Ctrl-C again to detach\n".encode(),
            )

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _stop(self) -> None:
        with suppress(ClientError), Client(self._client.url) as client:
            client.stop(self._command.id)
