"""This machine's keeper: requests over the inherited socket, the journal from the disk."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from scriptservice.fleet.transport import Held, HostState
from scriptservice.protocol.frames import (
    PROTOCOL_VERSION,
    Frame,
    FrameBuffer,
    SpawnSpec,
    encode,
    recorded_frame,
    stop_frame,
)
from scriptservice.protocol.journal_format import Record
from scriptservice.protocol.journal_reader import JournalReader

STATE_SECONDS = 2.0
HELD_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Hello:
    """The keeper's first words.

    Attributes:
        identity: which keeper it is.
        pid: its process id.
        journal: id of its journal.
        directory: where the journal is.
        first: the first position it still holds.
        end: how far it reaches.
        recorded: how far a server has said it is stored.
        capacity: how many scripts can run at once.
        first_start: whether no child of this keeper has worked yet.
        starts: how many children it has started, this one included.
        notes: what it mended at its start.
    """

    identity: str
    pid: int
    journal: str
    directory: str
    first: int
    end: int
    recorded: int
    capacity: int
    first_start: bool
    starts: int
    notes: tuple[str, ...]

    @classmethod
    def from_frame(cls, frame: Frame) -> "Hello":
        """Return what a ``hello`` frame says."""
        values = {name: frame[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "notes": tuple(frame["notes"])})


class LocalKeeper(asyncio.Protocol):
    """The `Transport` to the keeper whose child this process is.

    Args:
        host: this machine's name among hosts.
        on_shutdown: called when the keeper begins to shut down.
        on_finish: called with the journal's last position when all scripts have ended.
        on_retire: called when another server is to take this one's place.
        on_gone: called when the keeper is dead: this process has to end too.
    """

    def __init__(
        self,
        host: str,
        *,
        on_shutdown: Callable[[], None],
        on_finish: Callable[[int], None],
        on_retire: Callable[[], None],
        on_gone: Callable[[], None],
    ) -> None:
        self.host = host
        self._on_shutdown = on_shutdown
        self._on_finish = on_finish
        self._on_retire = on_retire
        self._on_gone = on_gone
        self._frames = FrameBuffer()
        self._transport: asyncio.Transport | None = None
        self._reader: JournalReader | None = None
        self._pings: dict[int, asyncio.Future[HostState]] = {}
        self._numbers = itertools.count()
        self._holding: asyncio.Future[Held] | None = None
        self._unsent: list[bytes] = []
        self._grown = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._greeted: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self.end = 0
        self.identity = ""
        self.journal = ""
        self.capacity = 0

    async def connect(self, keeper: socket.socket) -> None:
        """Take over the inherited socket."""
        keeper.setblocking(False)  # noqa: FBT003
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=keeper)

    async def greeted(self) -> Hello:
        """Wait for the keeper's first words; for a successor, until it is its turn."""
        return await self._greeted

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        for frame in self._frames.feed(data):
            self._received(frame)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._drained.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See `asyncio.Protocol`."""
        self._on_gone()

    def _received(self, frame: Frame) -> None:
        match frame["type"]:
            case "end":
                self._published(frame["position"])
            case "hello":
                self._greet(Hello.from_frame(frame))
                if frame["shutting_down"]:
                    self._on_shutdown()
            case "pong":
                if (waiting := self._pings.pop(frame["number"], None)) and not waiting.done():
                    waiting.set_result(_state(frame))
            case "held":
                self._published(frame["end"])
                if self._holding is not None and not self._holding.done():
                    self._holding.set_result(Held(frozenset(frame["ids"]), frame["end"]))
            case "retire":
                self._on_retire()
            case "shutdown":
                self._on_shutdown()
            case "finish":
                self._published(frame["position"])
                self._on_finish(frame["position"])

    def _greet(self, hello: Hello) -> None:
        self.identity = hello.identity
        self.journal = hello.journal
        self.capacity = hello.capacity
        self._reader = JournalReader(hello.directory)
        self._published(hello.end)
        self._greeted.set_result(hello)

    def _published(self, end: int) -> None:
        if end > self.end:
            self.end = end
            self._grown.set()

    def _send(self, frame: Frame) -> None:
        """Send a frame, together with the others of this turn of the loop."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(encode(frame))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def prepared(self, release: str) -> None:
        """Tell the keeper that this child can take the place of another, and how it speaks."""
        self._send({"type": "prepared", "protocol": PROTOCOL_VERSION, "release": release})

    def ready(self) -> None:
        """Tell the keeper that this child works."""
        self._send({"type": "ready"})

    def waiting(self, reason: str) -> None:
        """Tell the keeper that this child answers, though it cannot work yet, and why."""
        self._send({"type": "waiting", "reason": reason})

    async def fatal(self, message: str) -> None:
        """Tell the keeper why this child cannot work; return once the kernel has all of it.

        What a process has written to a socket is read by the other side also when it is dead. This
        is the last that is said: the link is closed.
        """
        self._send({"type": "fatal", "message": message})
        self._flush()
        sent = asyncio.Event()
        self._on_gone = sent.set
        if self._transport is not None:
            # The transport is lost when all that was written to it is sent, or the keeper is dead.
            self._transport.close()
            await sent.wait()

    async def drained(self) -> None:
        """See `Transport.drained`."""
        await self._drained.wait()

    # The transport's side

    def spawn(self, spec: SpawnSpec) -> None:
        """See `Transport.spawn`."""
        self._send(spec.to_frame())

    def adopted(self) -> None:
        """See `Transport.adopted`."""
        self._send({"type": "adopted"})

    def stop(self, command: str, signal: str, grace_seconds: float) -> None:
        """See `Transport.stop`."""
        self._send(stop_frame(command, signal, grace_seconds))

    def expire(self, command: str) -> None:
        """See `Transport.expire`."""
        self._send({"type": "expire", "id": command})

    def recorded(self, position: int) -> None:
        """See `Transport.recorded`."""
        self._send(recorded_frame(position))

    def read(self, position: int, max_bytes: int) -> tuple[list[Record], int]:
        """See `Transport.read`."""
        assert self._reader is not None  # noqa: S101 - the keeper has greeted before
        return self._reader.read(position, self.end, max_bytes)

    async def grown(self, position: int) -> None:
        """See `Transport.grown`."""
        while self.end <= position:
            self._grown.clear()
            await self._grown.wait()

    async def state(self) -> HostState:
        """See `Transport.state`."""
        number = next(self._numbers)
        answer: asyncio.Future[HostState] = asyncio.get_running_loop().create_future()
        self._pings[number] = answer
        self._send({"type": "ping", "number": number})
        try:
            async with asyncio.timeout(STATE_SECONDS):
                return await answer
        finally:
            self._pings.pop(number, None)

    async def held(self) -> Held:
        """See `Transport.held`."""
        self._holding = asyncio.get_running_loop().create_future()
        self._send({"type": "held"})
        async with asyncio.timeout(HELD_SECONDS):
            return await self._holding


def _state(frame: Frame) -> HostState:
    # During an upgrade the keeper is still of the release before, and may say less.
    values = {name: frame[name] for name in HostState.__dataclass_fields__ if name in frame}
    return HostState(**{**values, "strays": tuple(frame["strays"])})
