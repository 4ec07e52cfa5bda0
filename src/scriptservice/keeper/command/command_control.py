"""Acts on the server's frames for running commands: input, signals and terminal sizes.

A frame that fails concerns only its command, not the server that has sent the frame.
"""

import signal
from collections.abc import Callable, Mapping
from functools import partial

from scriptservice.keeper.command.command import RunningCommand
from scriptservice.keeper.system.event_loop import EventLoop, Timer
from scriptservice.protocol.frames import Frame, InputResult, input_data

RESIZE_SECONDS = 0.05
"""The keeper changes the size of a terminal at most once in this time."""


class CommandControl:
    """Passes input, signals and terminal sizes on to the commands.

    Args:
        loop: runs the timer for the sizes.
        running: the running commands, by id; this class does not change the mapping.
        send: sends a frame to the server.
    """

    def __init__(
        self,
        loop: EventLoop,
        running: Mapping[str, RunningCommand],
        send: Callable[[Frame], None],
    ) -> None:
        self._loop = loop
        self._running = running
        self._send = send
        self._sizes: dict[str, tuple[int, int]] = {}
        self._timer: Timer | None = None

    def callback_failed(self, error: Exception) -> None:  # noqa: ARG002 - it is logged
        """Let the next size set the timer again."""
        self._timer = None

    def frame_received(self, frame: Frame) -> None:
        """Act on a frame, if it is one for a running command."""
        match frame["type"]:
            case "input":
                self._input_requested(frame)
            case "signal":
                self._signal_requested(frame)
            case "resize":
                self._resize_requested(frame)

    def _input_requested(self, frame: Frame) -> None:
        """Give input to a command, or tell the state of its input; the answer says the result."""
        command = self._running.get(frame["id"])
        if command is None:
            self._answer_input(frame, None, InputResult.NOT_RUNNING)
        else:
            self._loop.call(command, partial(self._write_input, command, frame))

    def _write_input(self, command: RunningCommand, frame: Frame) -> None:
        data = input_data(frame)
        if data is None:
            result = command.input_state()
        else:
            result = command.write_input(data, offset=frame["offset"], close=frame["close"])
        self._answer_input(frame, command, result)

    def _answer_input(
        self, frame: Frame, command: RunningCommand | None, result: InputResult
    ) -> None:
        script_input = None if command is None else command.input
        answer = {
            "type": "input",
            "number": frame["number"],
            "result": result.value,
            "accepted_offset": 0 if script_input is None else script_input.accepted_bytes,
            "waiting_bytes": 0 if script_input is None else script_input.waiting_bytes,
        }
        self._send(answer)

    def _signal_requested(self, frame: Frame) -> None:
        """Send a signal to a command's process group; the answer says whether it was sent."""
        command = self._running.get(frame["id"])
        number = signal.Signals[frame["signal"]]
        sent = command is not None and command.send_signal(number)
        self._send({"type": "signalled", "number": frame["number"], "sent": sent})

    def _resize_requested(self, frame: Frame) -> None:
        """Change the size of a command's terminal, soon; only the last of several sizes counts."""
        if frame["id"] in self._running:
            self._sizes[frame["id"]] = (int(frame["rows"]), int(frame["cols"]))
            self._timer = self._timer or self._loop.after(self, RESIZE_SECONDS, self.apply_sizes)

    def apply_sizes(self) -> None:
        """Apply the sizes that wait; also called before a hand-over, which does not have them."""
        self._loop.cancel(self._timer)
        self._timer = None
        sizes, self._sizes = self._sizes, {}
        for command_id, (rows, cols) in sizes.items():
            command = self._running.get(command_id)
            if command is not None:
                self._loop.call(command, partial(command.resize, rows, cols))
