"""What ``scriptservice run`` submits: the script and its standard input, from files and pipes."""

import select
import shlex
import stat
import sys
from contextlib import suppress
from os import fstat
from pathlib import Path

import typer

from scriptservice.cli.exit_codes import USAGE, fail

STDIN_LIMIT_BYTES = 1 << 20
"""The service takes at most this many bytes as a command's standard input."""


def parse_words(text: str) -> list[str]:
    """Return a program and its arguments from a text that is quoted as for a shell.

    Raises:
        typer.BadParameter: a quote is not closed, or there is no word.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        message = f"'{text}' has a quote that is not closed"
        raise typer.BadParameter(message) from error
    if not words:
        message = "it is empty; give a program such as /usr/bin/python3"
        raise typer.BadParameter(message)
    return words


def read_script(file: str | None, script: str | None) -> str:
    """Return the script's text, from the command line, a file or stdin.

    Args:
        file: path of the file; ``-`` for stdin; None for the command line.
        script: the text on the command line.

    Raises:
        typer.Exit: there is no script, or the file cannot be read.
    """
    if file is None:
        if script is None:
            raise fail("cannot run: give a script, or a file with -f FILE", USAGE)
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
        raise fail(f"cannot run {file}: it is not UTF-8 text", USAGE) from error


def read_stdin_text(file: str) -> str:
    """Return the text that becomes the command's standard input.

    Args:
        file: path of the file; ``-`` for this program's stdin.

    Raises:
        typer.Exit: the file cannot be read, is too large, or is not UTF-8.
    """
    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            content = sys.stdin.buffer.read(STDIN_LIMIT_BYTES + 1)
        else:
            with open(file, "rb") as opened:
                content = opened.read(STDIN_LIMIT_BYTES + 1)
        if len(content) > STDIN_LIMIT_BYTES:
            raise fail(f"cannot send {name} to the script: it has more than 1 MiB", USAGE)
        return content.decode()
    except OSError as error:
        raise fail(f"cannot read {name}: {error.strerror}", USAGE) from error
    except UnicodeDecodeError as error:
        raise fail(f"cannot send {name} to the script: it is not UTF-8 text", USAGE) from error


def say_if_a_pipe_is_ignored() -> None:
    """Print a line to stderr if stdin is a pipe with data, or with a writer that may send data."""
    with suppress(OSError, ValueError):  # this program may have no stdin
        descriptor = sys.stdin.fileno()
        if not stat.S_ISFIFO(fstat(descriptor).st_mode):
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        events = dict(poll.poll(0)).get(descriptor, 0)
        if events & select.POLLIN or not events & select.POLLHUP:
            message = "standard input is not sent to the script; to send it, use --stdin -"
            print(f"scriptservice: {message}", file=sys.stderr)


def concurrency_fields(
    key: str | None, limit: int | None, when_busy: str | None
) -> dict[str, str | int] | None:
    """Return the ``concurrency`` of a submission from its options; None if none is given.

    Raises:
        typer.BadParameter: the key is missing.
    """
    given = {"key": key, "limit": limit, "when_busy": when_busy}
    fields = {name: value for name, value in given.items() if value is not None}
    if fields and key is None:
        message = "--concurrency-limit and --when-busy need --concurrency-key"
        raise typer.BadParameter(message)
    return fields or None
