"""Connects this program's stdin and stdout with an interactive command, until it ends or detaches.

``scriptservice attach`` and ``scriptservice run -i`` use this module.
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from scriptservice.cli import terminal
from scriptservice.cli.command_ids import short_id
from scriptservice.cli.exit_codes import BROKEN_PIPE, INTERRUPTED, NOT_RUN, SIGNALLED
from scriptservice.cli.options import explain
from scriptservice.cli.outcome import exit_code_of
from scriptservice.cli.raw_mode import EndedBySignalError, RawMode, reset_screen, window_size
from scriptservice.client import Attachment, Client
from scriptservice.client.problems import ClientError, ConnectionLostError

DETACH = b"\x1d"
"""The key Ctrl-]."""
READ_BYTES = 64 << 10


class AttachedTerminal:
    """This program's terminal, attached to a command.

    Args:
        client: reaches the service.
        command_id: id of the command.
        after: position in the output at which to begin; None for the present end.
        has_pty: whether the command has a terminal. Then the user's terminal is put into raw mode.
    """

    def __init__(
        self, client: Client, command_id: str, *, after: int | None, has_pty: bool
    ) -> None:
        self._command_id = command_id
        self._attachment: Attachment = client.attach(command_id, after=after)
        self._is_terminal = sys.stdin.isatty()
        self._is_raw = self._is_terminal and has_pty
        self._sink = terminal.stdout(raw=self._is_raw)
        self._redraws = after is None
        self._detached = False
        self._reconnects = 0
        self._resized = threading.Event()

    def attend(self) -> int:
        """Stay attached until the command ends or the user detaches; return the exit code.

        Raises:
            ClientError: the service refuses to attach.
        """
        with self._attachment as attachment:
            try:
                with self._raw_mode():
                    # The user may begin to type when the line is there, so it comes after the
                    # change of the mode: before, the terminal itself would show what is typed.
                    self._introduce()
                    self._start_thread(self._send_input)
                    if self._is_raw:
                        self._start_thread(self._send_sizes)
                        self._send_size(redraw=self._redraws)
                    for data in attachment:
                        self._say_if_reconnected(attachment)
                        self._sink.write(data)
                    self._sink.write(b"", final=True)
            except EndedBySignalError as error:
                return self._left(SIGNALLED + error.number)
            except KeyboardInterrupt:
                return self._left(INTERRUPTED)
            except BrokenPipeError:
                terminal.discard_closed_pipes()
                return self._left(BROKEN_PIPE)
            except ConnectionLostError as error:
                self._print(explain(error))
                return self._left(NOT_RUN)
            if self._detached or attachment.command is None:
                return self._left(0)
            return exit_code_of(attachment.command)

    def _raw_mode(self) -> AbstractContextManager[object]:
        return RawMode(self._resized.set) if self._is_raw else nullcontext()

    def _introduce(self) -> None:
        if self._is_terminal:
            keys, end = ("Ctrl-]", "\r") if self._is_raw else ("Ctrl-] and Enter", "")
            self._print(f"attached to {short_id(self._command_id)}; {keys} to detach{end}")

    def _say_if_reconnected(self, attachment: Attachment) -> None:
        if attachment.reconnects > self._reconnects:
            self._reconnects = attachment.reconnects
            if self._is_terminal:
                self._print("connected again; what was typed meanwhile may be lost\r")

    def _left(self, code: int) -> int:
        """Say that the command continues, and return the exit code."""
        if self._is_raw:
            reset_screen()
        self._print(
            "detached; the command still runs; "
            f"to attach again: scriptservice attach {self._command_id}"
        )
        return code

    def _print(self, text: str) -> None:
        with suppress(OSError):
            print(f"scriptservice: {text}", file=sys.stderr, flush=True)

    def _start_thread(self, work: Callable[[], None]) -> None:
        # A daemon, because a read from a terminal cannot be ended.
        threading.Thread(target=work, daemon=True).start()

    def _send_input(self) -> None:
        """Send what the user types, until the user detaches or the input ends."""
        while True:
            try:
                data = os.read(sys.stdin.fileno(), READ_BYTES)
            except (OSError, ValueError):
                return
            typed, key, _ = data.partition(DETACH) if self._is_terminal else (data, b"", b"")
            try:
                if typed:
                    self._attachment.send(typed)
            except ConnectionLostError as error:
                # The attachment connects again, but what was typed may be lost.
                self._print(f"{explain(error)}\r")
            except ClientError:
                return  # the attachment is closed
            if key:
                self._detached = True
                self._attachment.close()
                return
            if not data:
                return

    def _send_sizes(self) -> None:
        while True:
            self._resized.wait()
            self._resized.clear()
            try:
                self._send_size()
            except ClientError:
                return

    def _send_size(self, *, redraw: bool = False) -> None:
        """Send the size of the window.

        Args:
            redraw: whether to make the script draw its screen again. A full-screen program does
                that only when the size changes, so a different size is sent first.
        """
        size = window_size()
        if size is not None:
            rows, cols = size
            if redraw:
                self._attachment.resize(rows, cols - 1 if cols > 1 else cols + 1)
            self._attachment.resize(rows, cols)
