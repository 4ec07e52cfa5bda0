"""Output parts that many followers share, compared with the plain bytes, on real databases."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from scriptservice.errors import UnknownCommandError
from scriptservice.model import Command, Status, Stream
from scriptservice.server.commands.notifier import FollowerKind, Notifier
from scriptservice.server.output import block_cache as parts_module
from scriptservice.server.output.block_cache import BlockCache
from scriptservice.server.output.event_stream import EventStreams
from scriptservice.server.output.output_service import OutputService
from scriptservice.store.queries import deletions
from scriptservice.store.queries.journal_changes import Chunk
from scriptservice.store.reader import Reader
from support.service import PATIENCE_SECONDS
from support.store import CREATED, Store

PART = 64 << 10


class Printing:
    """A running command, its growing output and its followers."""

    def __init__(self, store: Store, reader: Reader) -> None:
        self.store = store
        self.reader = reader
        self.feed = Notifier()
        self.parts = BlockCache(reader, self.feed)
        self.command: Command = store.add(Status.RUNNING)
        self.plain = {Stream.MERGED: b"", Stream.STDOUT: b"", Stream.STDERR: b""}

    def print(self, data: bytes, stream: Stream = Stream.STDOUT) -> None:
        """Commit output, then notify followers."""
        merged, own = len(self.plain[Stream.MERGED]), len(self.plain[stream])
        number = 1 if stream is Stream.STDOUT else 2
        chunk = Chunk(self.command.number, merged, number, own, 0, data)
        self.store.store_changes(chunks=[chunk])
        self.plain[Stream.MERGED] += data
        self.plain[stream] += data
        stdout, stderr = len(self.plain[Stream.STDOUT]), len(self.plain[Stream.STDERR])
        self.store.set(self.command, stdout_bytes=stdout, stderr_bytes=stderr)
        self.feed.notify([self.command.id])

    def end(self) -> None:
        self.store.set(self.command, status=Status.SUCCEEDED.value)
        self.feed.notify([self.command.id])

    async def follow(self, stream: Stream, start: int) -> bytes:
        """Return all output from an offset on, read as a follower does."""
        got = bytearray()
        with self.feed.subscribe(self.command.id, FollowerKind.OUTPUT) as news:
            while True:
                news.clear()
                at = start + len(got)
                part = await self.parts.read(self.command.id, stream, at, at + PART)
                assert len(part.data) <= PART
                got += part.data
                if part.finished:
                    return bytes(got)
                if not part.data:
                    await news.wait()

    async def all_from(self, start: int) -> bytes:
        """Return the output that is stored now from an offset on."""
        got = bytearray()
        while data := (await self.part(start + len(got))).data:
            got += data
        return bytes(got)

    async def part(self, start: int) -> parts_module.StoredOutput:
        return await self.parts.read(self.command.id, Stream.MERGED, start, start + PART)


@pytest.fixture
def printing(store: Store) -> Iterator[Printing]:
    reader = Reader(store.database)
    yield Printing(store, reader)
    reader.close()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE_SECONDS))


@contextmanager
def statements(store: Store) -> Iterator[Callable[[], int]]:
    """Provide a function that returns how many statements the database was asked to run."""
    count = 0

    def counting(*_: Any) -> None:
        nonlocal count
        count += 1

    event.listen(store.database.reading, "before_cursor_execute", counting)
    try:
        yield lambda: count
    finally:
        event.remove(store.database.reading, "before_cursor_execute", counting)


@contextmanager
def held(store: Store) -> Iterator[tuple[threading.Event, threading.Event]]:
    """Provide two events: a reader has its snapshot, and the reader may go on."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):  # BEGIN alone takes no snapshot
            begun.set()
            go_on.wait(PATIENCE_SECONDS)

    event.listen(store.database.reading, "after_cursor_execute", wait)
    try:
        yield begun, go_on
    finally:
        go_on.set()
        event.remove(store.database.reading, "after_cursor_execute", wait)


@pytest.mark.parametrize("kept_bytes", [0, 5000, parts_module.CACHE_BYTES])
def test_every_follower_gets_every_byte_from_its_offset_on(
    printing: Printing, monkeypatch: pytest.MonkeyPatch, kept_bytes: int
) -> None:
    """While the command prints: each stream, from odd offsets, at different times."""
    monkeypatch.setattr(parts_module, "CACHE_BYTES", kept_bytes)
    monkeypatch.setattr(parts_module, "BLOCK_BYTES", 1000)
    made = random.Random(7)

    async def scenario() -> None:
        asked: list[tuple[Stream, int]] = []
        following: list[asyncio.Task[bytes]] = []
        for number in range(25):
            for stream in Stream:
                start = made.randrange(len(printing.plain[stream]) * 5 // 4 + 3)
                asked.append((stream, start))
                following.append(asyncio.create_task(printing.follow(stream, start)))
            data = b"".join(b"%d.%d " % (number, piece) for piece in range(made.randrange(1, 400)))
            printing.print(data, made.choice([Stream.STDOUT, Stream.STDERR]))
            await asyncio.sleep(made.choice([0, 0, 0.005]))
            assert printing.parts.cached_bytes <= kept_bytes
        printing.end()
        for (stream, start), task in zip(asked, following, strict=True):
            assert await task == printing.plain[stream][start:]

    run(scenario())


def test_a_block_is_read_once(printing: Printing) -> None:
    printing.print(b"0123456789" * 30_000)

    async def scenario() -> None:
        with statements(printing.store) as count:
            for _ in range(3):
                got = await asyncio.gather(*(printing.all_from(start) for start in range(50)))
                assert got == [printing.plain[Stream.MERGED][start:] for start in range(50)]
            # Two blocks of output, at worst once for each follower that began elsewhere meanwhile.
            first = count()
            assert first < 3 * 110
            assert await printing.all_from(7) == printing.plain[Stream.MERGED][7:]
            assert count() == first

    run(scenario())


def test_new_output_is_seen_at_once(printing: Printing) -> None:
    async def scenario() -> None:
        for number in range(20):
            end = len(printing.plain[Stream.MERGED])
            for _ in range(3):
                assert (await printing.part(end)) == parts_module.StoredOutput(b"", finished=False)
            printing.print(b"line %d\n" % number)
            assert (await printing.part(end)).data == b"line %d\n" % number
        printing.end()
        end = len(printing.plain[Stream.MERGED])
        assert (await printing.part(end)) == parts_module.StoredOutput(b"", finished=True)

    run(scenario())


def test_the_cache_is_bounded(printing: Printing, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 1 << 20
    monkeypatch.setattr(parts_module, "CACHE_BYTES", bound)
    data = bytes(range(256)) * 1024

    async def scenario() -> None:
        for number in range(12):
            printing.print(data)
            assert await printing.all_from(number * len(data)) == data
            assert printing.parts.cached_bytes <= bound
        assert printing.parts.cached_bytes > bound // 2
        # Empty blocks count too: each of these offsets lies behind all output.
        for number in range(1500):
            await printing.part((1 << 40) + number * parts_module.BLOCK_BYTES)
        assert len(printing.parts._blocks) <= bound >> 10

    run(scenario())


def test_deleted_output_is_not_returned(printing: Printing) -> None:
    printing.print(b"secret " * 50_000)

    async def scenario() -> None:
        assert await printing.all_from(0) == printing.plain[Stream.MERGED]
        # A read during the deletion may still be answered, but must not be cached.
        printing.print(b"more")
        deletion = deletions.Deletion(printing.command.id, CREATED)
        with held(printing.store) as (begun, go_on):
            reading = asyncio.create_task(printing.part(350_000))
            await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
            printing.end()
            printing.store.write(deletions.mark_deleted, deletion)
            printing.parts.forget({printing.command.id})
            go_on.set()
            assert (await reading).data == b"more"
        assert printing.parts.cached_bytes == 0
        for start in (0, 7, 300_000, 350_000, 350_004):
            with pytest.raises(UnknownCommandError):
                await printing.part(start)
        assert printing.parts.cached_bytes == 0

    run(scenario())


def test_a_cancelled_follower_does_not_disturb_the_others(printing: Printing) -> None:
    printing.print(b"0123456789")

    async def scenario() -> None:
        tasks = [asyncio.create_task(printing.part(0)) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        for task in tasks[1:]:
            assert (await task).data == b"0123456789"

    run(scenario())


@pytest.mark.parametrize("kind", ["events", "bytes"])
def test_the_end_of_a_command_is_sent_though_the_server_ends(printing: Printing, kind: str) -> None:
    """A read from before the end comes back after the server has begun to end."""
    printing.print(b"all of it")
    command_id = str(printing.command.id)

    async def following() -> AsyncIterator[bytes]:
        if kind == "events":
            return await EventStreams(printing.reader, printing.feed).stream(command_id, 0, "after")
        service = OutputService(printing.reader, printing.feed, printing.parts)
        wanted = await service.range_from(command_id, Stream.MERGED, offset=9, limit=None)
        return service.follow(command_id, wanted)

    async def scenario() -> None:
        frames = await following()

        async def rest() -> bytes:
            return b"".join([frame async for frame in frames])

        with held(printing.store) as (begun, go_on):
            reading = asyncio.create_task(rest())
            await asyncio.to_thread(begun.wait, PATIENCE_SECONDS)
            printing.end()
            printing.feed.close()
            go_on.set()
            got = await reading
        # A stream of bytes that is cut raises StreamCutError instead.
        assert (b"event: end" in got) == (kind == "events")

    run(scenario())
