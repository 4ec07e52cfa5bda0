"""What keeper and child say to each other over their socketpair: frames of JSON.

A frame is four bytes of length (little-endian) and a JSON object whose ``type`` names it. Either
side may lose frames when the other dies; whatever must not be lost is in the journal or in the
database. This module is the only one of the keeper that others import, with ``journal`` and, for
lines of log, ``lines`` and ``log``.

To the keeper: ``prepared``, ``ready``, ``waiting``, ``fatal``, ``adopted``, ``spawn``, ``stop``,
``expire``, ``recorded``, ``held``, ``ping``. To the child: ``hello``, ``end``, ``retire``,
``shutdown``, ``finish``, ``held``, ``pong``. A child that was started as a successor says
``prepared`` and with which version of this protocol, and is greeted only when the one before it is
gone.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

PROTOCOL_VERSION = 1
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_LENGTH = struct.Struct("<I")
MAX_FRAME_BYTES = 64 << 20

PRIVATE_DIRECTORY = "private"
"""The ``working_directory`` that asks for an empty one, removed at the end."""

Frame = dict[str, Any]


def encode(frame: Frame) -> bytes:
    """Return a frame as it goes over the socket."""
    body = _encode(frame).encode()
    return _LENGTH.pack(len(body)) + body


class FrameBuffer:
    """Puts frames together from whatever pieces a stream socket returns."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def rest(self) -> bytes:
        """The beginning of a frame that is not complete yet."""
        return bytes(self._data)

    def restore(self, rest: bytes) -> None:
        """Go on after the `rest` of another buffer."""
        self._data = bytearray(rest)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Add received bytes and yield the frames that are complete with them.

        Raises:
            ValueError: the other side does not speak this protocol.
        """
        self._data += data
        offset = 0
        try:
            while len(self._data) - offset >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._data, offset)
                if length > MAX_FRAME_BYTES:
                    message = f"cannot take a frame of {length} bytes"
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
        script: its text.
        interpreter: program and leading arguments; the script follows as a path.
        args: ``$1`` and on.
        env: added to the clean environment.
        stdin: text for standard input, None for /dev/null.
        working_directory: a path, ``private``, or None for the shared one.
        timeout_seconds: from its start, None for ever.
        grace_seconds: between a stop's signal and SIGKILL of the tree.
        leftover_seconds: what background children get after the script's own end.
        output_limit_bytes: of both streams together, None for no limit.
        on_output_limit: ``discard`` or ``stop``.
    """

    id: str
    script: str
    interpreter: list[str]
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    stdin: str | None = None
    working_directory: str | None = None
    timeout_seconds: float | None = None
    grace_seconds: float = 10
    leftover_seconds: float = 2
    output_limit_bytes: int | None = None
    on_output_limit: str = "discard"

    def frame(self) -> Frame:
        """Return the ``spawn`` frame."""
        return {"type": "spawn", **self.fields()}

    def fields(self) -> dict[str, Any]:
        """Return its fields by name."""
        return {name: getattr(self, name) for name in SpawnSpec.__dataclass_fields__}

    @classmethod
    def from_frame(cls, frame: Frame) -> "SpawnSpec":
        """Return what a ``spawn`` frame says.

        Raises:
            ValueError: its id is no UUID.
            KeyError: a field is missing.
        """
        UUID(frame["id"])
        return cls(**{name: frame[name] for name in cls.__dataclass_fields__})


def stop_frame(command: str, signal: str, grace_seconds: float) -> Frame:
    """Return the request to stop a command.

    Args:
        command: its UUID.
        signal: a name such as ``SIGTERM``.
        grace_seconds: from the signal to SIGKILL of the tree.
    """
    return {"type": "stop", "id": command, "signal": signal, "grace_seconds": grace_seconds}


def recorded_frame(position: int) -> Frame:
    """Return the news that the journal is recorded up to a position."""
    return {"type": "recorded", "position": position}
