"""The connection to this machine's keeper: frames on an inherited socket, and the journal."""

import asyncio
import itertools
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from scriptservice.fleet.transport import (
    HeldCommands,
    HostState,
    InputAnswer,
    RemainingProcess,
)
from scriptservice.protocol.frames import (
    PROTOCOL_VERSION,
    Frame,
    FrameBuffer,
    InputResult,
    SpawnSpec,
    encode,
    held_request,
    input_request,
    recorded_frame,
    stop_frame,
)
from scriptservice.protocol.journal_format import Record
from scriptservice.protocol.journal_reader import JournalReader

STATE_SECONDS = 2.0
HELD_SECONDS = 10.0
INPUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Hello:
    """The keeper's first frame.

    Attributes:
        identity: identity of the keeper.
        pid: process id of the keeper.
        journal: id of the keeper's journal.
        directory: directory of the journal.
        first: first position that is still in the journal.
        end: position at which the journal ends.
        recorded: position up to which the journal is stored, as a server last reported it to the
            keeper.
        capacity: number of scripts that can run at the same time.
        first_start: True until a server of this keeper has reported that it works, then False.
        starts: number of servers that the keeper has started, including this server.
        notes: what the keeper repaired at its start.
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
        """Return the contents of a ``hello`` frame."""
        values = {name: frame[name] for name in cls.__dataclass_fields__}
        return cls(**{**values, "notes": tuple(frame["notes"])})


class LocalKeeper(asyncio.Protocol):
    """The `Transport` to the keeper that started this process.

    Args:
        host: name of this host.
        on_shutdown: called when the keeper begins to shut down.
        on_finish: called when all scripts have ended, with the position at which the journal ends.
        on_retire: called when another server will replace this server.
        on_gone: called when the keeper is dead, because this process must then end too.
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
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._numbers = itertools.count()
        self._held_answer: asyncio.Future[HeldCommands] | None = None
        self._held_number = -1
        self._held_ids: list[str] = []
        self._unsent: list[bytes] = []
        self._grown = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._hello: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self.end = 0
        self.identity = ""
        self.journal = ""
        self.capacity = 0

    async def connect(self, keeper: socket.socket) -> None:
        """Begin to exchange frames on the inherited socket.

        Args:
            keeper: the socket that is connected to the keeper.
        """
        keeper.setblocking(False)  # noqa: FBT003
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=keeper)

    async def wait_for_hello(self) -> Hello:
        """Wait for the keeper's first frame, and return it.

        A server that replaces another server gets this frame after the other server has ended.
        """
        return await self._hello

    # Callbacks of asyncio

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
                self._journal_grew_to(frame["position"])
            case "hello":
                self._accept_hello(Hello.from_frame(frame))
                if frame["shutting_down"]:
                    self._on_shutdown()
            case "pong" | "input" | "signalled":
                waiting = self._answers.pop(frame["number"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(frame)
            case "held":
                self._journal_grew_to(frame["end"])
                self._held_received(frame)
            case "retire":
                self._on_retire()
            case "shutdown":
                self._on_shutdown()
            case "finish":
                self._journal_grew_to(frame["position"])
                self._on_finish(frame["position"])

    def _held_received(self, frame: Frame) -> None:
        # A keeper of an earlier release sends one frame without a number.
        if frame.get("number", self._held_number) != self._held_number:
            return
        self._held_ids += frame["ids"]
        if frame.get("more", False) or self._held_answer is None or self._held_answer.done():
            return
        self._held_answer.set_result(HeldCommands(frozenset(self._held_ids), frame["end"]))

    def _accept_hello(self, hello: Hello) -> None:
        self.identity = hello.identity
        self.journal = hello.journal
        self.capacity = hello.capacity
        self._reader = JournalReader(hello.directory)
        self._journal_grew_to(hello.end)
        self._hello.set_result(hello)

    def _journal_grew_to(self, end: int) -> None:
        if end > self.end:
            self.end = end
            self._grown.set()

    def _send(self, frame: Frame) -> None:
        """Send a frame; the frames of one iteration of the event loop are written together."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(encode(frame))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None:
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    def send_prepared(self, release: str) -> None:
        """Tell the keeper that this server is prepared to replace another server.

        The frame also contains this server's version of the protocol.

        Args:
            release: release of this server.
        """
        self._send({"type": "prepared", "protocol": PROTOCOL_VERSION, "release": release})

    def send_ready(self) -> None:
        """Tell the keeper that this server works."""
        self._send({"type": "ready"})

    def send_waiting(self, reason: str) -> None:
        """Tell the keeper that this server answers clients but cannot work yet, and why."""
        self._send({"type": "waiting", "reason": reason})

    async def send_fatal(self, message: str) -> None:
        """Tell the keeper why this server cannot work; return when the kernel has the frame.

        The keeper can read what was written to the socket even after this process is dead. This
        method closes the connection, so no frame may be sent after this frame.
        """
        self._send({"type": "fatal", "message": message})
        self._flush()
        sent = asyncio.Event()
        self._on_gone = sent.set
        if self._transport is not None:
            # asyncio calls `connection_lost` when everything is sent or the keeper is dead.
            self._transport.close()
            await sent.wait()

    async def drain(self) -> None:
        """See `Transport.drain`."""
        await self._drained.wait()

    # Methods of `Transport`

    def spawn(self, spec: SpawnSpec) -> None:
        """See `Transport.spawn`."""
        self._send(spec.to_frame())

    def finish_adoption(self) -> None:
        """See `Transport.finish_adoption`."""
        self._send({"type": "adopted"})

    def stop(self, command_id: str, signal: str, grace_seconds: float) -> None:
        """See `Transport.stop`."""
        self._send(stop_frame(command_id, signal, grace_seconds))

    def expire(self, command_id: str) -> None:
        """See `Transport.expire`."""
        self._send({"type": "expire", "id": command_id})

    def acknowledge(self, position: int) -> None:
        """See `Transport.acknowledge`."""
        self._send(recorded_frame(position))

    def read(self, position: int, max_bytes: int) -> tuple[list[Record], int]:
        """See `Transport.read`."""
        assert self._reader is not None  # noqa: S101 - the hello frame came before
        return self._reader.read(position, self.end, max_bytes)

    async def wait_for_growth(self, position: int) -> None:
        """See `Transport.wait_for_growth`."""
        while self.end <= position:
            self._grown.clear()
            await self._grown.wait()

    async def state(self) -> HostState:
        """See `Transport.state`."""
        return _state(await self._ask({"type": "ping"}, STATE_SECONDS))

    async def write_input(
        self, command_id: str, data: bytes, *, offset: int | None, close: bool
    ) -> InputAnswer:
        """See `Transport.write_input`."""
        request = input_request(command_id, data, offset=offset, close=close)
        return _input_answer(await self._ask(request, INPUT_SECONDS))

    async def input_state(self, command_id: str) -> InputAnswer:
        """See `Transport.input_state`."""
        return _input_answer(await self._ask(input_request(command_id), INPUT_SECONDS))

    async def send_signal(self, command_id: str, signal: str) -> bool:
        """See `Transport.send_signal`."""
        request = {"type": "signal", "id": command_id, "signal": signal}
        return bool((await self._ask(request, INPUT_SECONDS))["sent"])

    def resize(self, command_id: str, rows: int, cols: int) -> None:
        """See `Transport.resize`."""
        self._send({"type": "resize", "id": command_id, "rows": rows, "cols": cols})

    async def _ask(self, request: Frame, seconds: float) -> Frame:
        """Send a request with a number, and return the answer that has the same number.

        Raises:
            TimeoutError: the keeper does not answer in time.
        """
        number = next(self._numbers)
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._send({**request, "number": number})
        try:
            async with asyncio.timeout(seconds):
                return await answer
        finally:
            self._answers.pop(number, None)

    async def held_commands(self) -> HeldCommands:
        """See `Transport.held_commands`."""
        self._held_answer = asyncio.get_running_loop().create_future()
        self._held_number = next(self._numbers)
        self._held_ids = []
        self._send(held_request(self._held_number))
        async with asyncio.timeout(HELD_SECONDS):
            return await self._held_answer


def _input_answer(frame: Frame) -> InputAnswer:
    return InputAnswer(
        InputResult(frame["result"]), frame["accepted_offset"], frame["waiting_bytes"]
    )


def _state(frame: Frame) -> HostState:
    # During an upgrade the keeper may be of an earlier release and report fewer values.
    values = {name: frame[name] for name in HostState.__dataclass_fields__ if name in frame}
    unkillable = tuple(RemainingProcess(**each) for each in frame.get("unkillable", ()))
    return HostState(**{**values, "strays": tuple(frame["strays"]), "unkillable": unkillable})
