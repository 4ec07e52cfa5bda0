"""The frames of JSON that the keeper and its child, the server, send over their socket pair.

A frame begins with the length of the rest, in four bytes (little-endian). The rest is a JSON object
whose ``type`` names the kind of the frame. Frames may be lost when the other side dies, so whatever
must not be lost is in the journal or in the database.

The child sends ``prepared``, ``ready``, ``waiting``, ``fatal``, ``adopted``, ``spawn``, ``stop``,
``expire``, ``input``, ``signal``, ``resize``, ``recorded``, ``held`` and ``ping``. The keeper sends
``hello``, ``end``, ``retire``, ``shutdown``, ``finish``, ``input``, ``signalled``, ``held`` and
``pong``. In an upgrade, the new child is started while the
old child still runs. The new child then sends ``prepared`` with its version of this protocol, and
the keeper sends ``hello`` to the new child only after the old child has exited.

The answer to ``held`` may be large, so it comes in parts: see `held_frames`.
"""

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

PROTOCOL_VERSION = 1
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 64 << 20
HELD_IDS = 4096
"""A frame of the answer to ``held`` has at most this many ids."""

PRIVATE_DIRECTORY = "private"
"""The value of ``working_directory`` that gives a script a new, empty directory of its own.

The keeper removes that directory at the end of the command.
"""

MAX_INPUT_BYTES = 1 << 20
"""Largest size of one request's input, and of all input that waits for a script."""

Frame = dict[str, Any]


def encode(frame: Frame) -> bytes:
    """Return a frame as bytes for the socket."""
    body = _encode(frame).encode()
    return _LENGTH.pack(len(body)) + body


class FrameBuffer:
    """Assembles frames from the pieces that a stream socket returns."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def incomplete(self) -> bytes:
        """The received bytes of a frame that has not arrived completely; empty if there is none."""
        return bytes(self._data)

    def restore(self, incomplete: bytes) -> None:
        """Begin with the bytes that `incomplete` of another buffer returned."""
        self._data = bytearray(incomplete)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add received bytes and yield the frames that they complete.

        Raises:
            ValueError: the bytes are not frames of this protocol, or a frame is too long.
        """
        self._data += data
        offset = 0
        try:
            while len(self._data) - offset >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._data, offset)
                if length > MAX_FRAME_BYTES:
                    message = f"cannot receive a frame of {length} bytes: at most {MAX_FRAME_BYTES}"
                    raise ValueError(message)
                start = offset + _LENGTH.size
                if len(self._data) < start + length:
                    break
                offset = start + length
                yield dict(json.loads(self._data[start:offset].decode()))
        finally:
            del self._data[:offset]


@dataclass(frozen=True, slots=True)
class SpawnSpec:
    """All that the keeper needs to run one script.

    Attributes:
        id: the command's UUID.
        script: the script's text.
        interpreter: the program and its first arguments. The next argument is the script's path.
        args: the script's arguments, ``$1`` and the following ones.
        env: variables that are added to the clean environment.
        stdin: text for standard input, None for /dev/null. If the script takes input, it reads this
            text first.
        interactive: whether the script takes input while it runs.
        pty: the rows and columns of the script's terminal, None if it has no terminal.
        working_directory: a path, `PRIVATE_DIRECTORY`, or None for the shared directory.
        timeout_seconds: the time from the script's start until it is stopped, None for no time-out.
        grace_seconds: the time between a stop's signal and SIGKILL for the process tree.
        leftover_seconds: how long background children may run after the script's own end.
        output_limit_bytes: how many bytes of both streams together are kept, None for no limit.
        on_output_limit: what happens at the limit. With ``discard`` the script runs on and further
            output is discarded; with ``stop`` the script is stopped.
    """

    id: str
    script: str
    interpreter: list[str]
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    stdin: str | None = None
    interactive: bool = False
    pty: list[int] | None = None
    working_directory: str | None = None
    timeout_seconds: float | None = None
    grace_seconds: float = 10
    leftover_seconds: float = 2
    output_limit_bytes: int | None = None
    on_output_limit: str = "discard"

    def to_frame(self) -> Frame:
        """Return the ``spawn`` frame."""
        return {"type": "spawn", **self.fields()}

    def fields(self) -> dict[str, Any]:
        """Return the fields as a dictionary, for a frame or for the keeper's next program."""
        return {name: getattr(self, name) for name in SpawnSpec.__dataclass_fields__}

    @classmethod
    def from_frame(cls, frame: Frame) -> "SpawnSpec":
        """Return the specification in a ``spawn`` frame.

        A server of an earlier release does not send the fields that were added since then.

        Raises:
            ValueError: the id is not a UUID.
            KeyError: a field is missing.
        """
        UUID(frame["id"])
        names = [name for name in cls.__dataclass_fields__ if name not in _ADDED or name in frame]
        return cls(**{name: frame[name] for name in names})


_ADDED = frozenset({"interactive", "pty"})
"""Fields of `SpawnSpec` that the first release did not have."""


def stop_frame(command_id: str, signal: str, grace_seconds: float) -> Frame:
    """Return the frame that asks the keeper to stop a command.

    Args:
        command_id: the command's UUID.
        signal: the name of a signal, such as ``SIGTERM``.
        grace_seconds: the time between the signal and SIGKILL for the process tree.
    """
    return {"type": "stop", "id": command_id, "signal": signal, "grace_seconds": grace_seconds}


class InputResult(StrEnum):
    """What became of input for a command."""

    ACCEPTED = "accepted"
    """The keeper has all of it, and passes it to the script in order."""
    OFFSET_MISMATCH = "offset-mismatch"
    """The given offset is not the number of bytes that were accepted so far."""
    FULL = "full"
    """Too much accepted input waits until the script reads it."""
    CLOSED = "closed"
    """The input was closed, by an earlier request or by the script."""
    NOT_RUNNING = "not-running"
    """The keeper has no such command, or the command has not started, is stopping or has exited."""
    NOT_INTERACTIVE = "not-interactive"
    """The command takes no input."""


def input_request(
    command_id: str, data: bytes | None = None, *, offset: int | None = None, close: bool = False
) -> Frame:
    """Return the frame that gives input to a command, without the request's number.

    Args:
        command_id: the command's UUID.
        data: the bytes; None to ask for the state of the input only.
        offset: how many bytes must have been accepted before; None for any number.
        close: whether the input ends after these bytes.
    """
    encoded = None if data is None else b64encode(data).decode()
    return {"type": "input", "id": command_id, "data": encoded, "offset": offset, "close": close}


def input_data(request: Frame) -> bytes | None:
    """Return the bytes in an ``input`` frame, None if the frame only asks for the state."""
    return None if request["data"] is None else b64decode(request["data"])


def recorded_frame(position: int) -> Frame:
    """Return the frame that reports how far the journal is stored in the database.

    Args:
        position: everything before this journal position is stored.
    """
    return {"type": "recorded", "position": position}


def held_request(number: int) -> Frame:
    """Return the frame that asks the keeper which commands it holds.

    Args:
        number: the parts of the answer have this number.
    """
    return {"type": "held", "number": number}


def held_frames(request: Frame, end: int, ids: list[str]) -> Iterator[Frame]:
    """Yield the frames that answer a ``held`` frame; each but the last has ``more`` set.

    A server of an earlier release sends a request without a number, and understands an answer of
    one frame only.

    Args:
        request: the ``held`` frame.
        end: the journal position at which the journal ends.
        ids: the ids of the commands that the keeper holds.
    """
    if "number" not in request:
        yield {"type": "held", "end": end, "ids": ids}
        return
    for start in range(0, max(1, len(ids)), HELD_IDS):
        after = start + HELD_IDS
        yield {
            "type": "held",
            "number": request["number"],
            "end": end,
            "ids": ids[start:after],
            "more": after < len(ids),
        }
