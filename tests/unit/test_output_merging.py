"""Merging the records of a large read changes neither what is stored nor its order."""

import asyncio
from dataclasses import replace
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.output_text import build_line, lines, random_bytes
from scriptservice.fleet.journal_folding import (
    RecordBatch,
    TrackedCommand,
    apply_record,
    merge_output,
)
from scriptservice.fleet.output_compressor import OutputCompressor
from scriptservice.model import Outcome, Status
from scriptservice.protocol.journal_format import Kind, Record
from scriptservice.store.compression import ZSTD, decompress
from scriptservice.store.queries.journal_changes import Chunk
from scriptservice.store.queries.output import CHUNK_BYTES

COMMANDS = [UUID(int=number).bytes for number in (1, 2)]
TEXT = lines(build_line, 4 * CHUNK_BYTES)
NOISE = random_bytes(CHUNK_BYTES)
PIECES = st.lists(
    st.tuples(
        st.sampled_from(COMMANDS),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([1, 100, 4096, 65_536, CHUNK_BYTES, CHUNK_BYTES + 1]),
        st.sampled_from(["text", "text", "noise", "stopping", "gap"]),
    ),
    max_size=14,
)


def records_of(pieces: list[tuple[bytes, int, int, str]]) -> list[Record]:
    """Return the records of a journal with some output and other events."""
    records: list[Record] = []
    positions = dict.fromkeys(COMMANDS, 0)
    stopped: set[bytes] = set()
    end = 1000
    for time, (command, stream, size, what) in enumerate(pieces):
        position = positions[command]
        if what == "stopping":
            if command not in stopped:
                stopped.add(command)
                end += 40
                records.append(Record(Kind.STOPPING, command, 0, time, position, b"{}", end))
            continue
        if what == "gap":
            positions[command] += 7
            continue
        source = NOISE if what == "noise" else TEXT
        data = source[time : time + size]
        end += 40 + len(data)
        records.append(Record(Kind.OUTPUT, command, stream, time, position, memoryview(data), end))
        positions[command] += len(data)
    return records


def tracked(known_bytes: int = 0) -> dict[bytes, TrackedCommand]:
    outcome = Outcome(stdout_bytes=known_bytes)
    return {
        command: TrackedCommand(
            number, UUID(bytes=command), Status.RUNNING, Status.RUNNING, outcome, 0
        )
        for number, command in enumerate(COMMANDS)
    }


def folded(batch: RecordBatch, records: list[Record]) -> RecordBatch:
    for record in records:
        command = batch.command(record.command_id)
        assert command is not None
        if record.kind is Kind.OUTPUT:
            batch.add_output(record.command_id, command, record)
        else:
            apply_record(command, record)
    batch.close_chunks()
    return batch


def content(chunks: list[Chunk]) -> dict[tuple[int, int], bytes]:
    """Return the output of each stream of each command, with its place before each byte's chunk."""
    found: dict[tuple[int, int], bytes] = {}
    ends: dict[int, int] = {}
    for chunk in chunks:
        key = chunk.number, chunk.stream
        assert chunk.stream_offset == len(found.get(key, b""))
        assert chunk.position == ends.get(chunk.number, 0)
        found[key] = found.get(key, b"") + bytes(chunk.data)
        ends[chunk.number] = chunk.position + len(chunk.data)
    return found


def original(chunk: Chunk) -> Chunk:
    if chunk.compression is None:
        return chunk
    assert chunk.compression == ZSTD
    return replace(chunk, data=decompress(chunk.data), compression=None)


@given(PIECES)
@settings(deadline=None, max_examples=60)
def test_merged_and_compressed_ahead_is_the_same_output(
    pieces: list[tuple[bytes, int, int, str]],
) -> None:
    records = records_of(pieces)
    plain = folded(RecordBatch(tracked()), records)
    merged = merge_output(records)
    assert len(merged) <= len(records)

    async def stored() -> tuple[RecordBatch, list[Chunk]]:
        compressor = OutputCompressor()
        frames = await compressor.compress_records(merged)
        batch = folded(RecordBatch(tracked(), frames=frames), merged)
        return batch, await compressor.compress_chunks(batch.chunks, batch.chunk_frames)

    batch, chunks = asyncio.run(stored())
    assert [original(chunk) for chunk in chunks] == batch.chunks
    assert content(batch.chunks) == content(plain.chunks)
    assert batch.touched == plain.touched


def test_adjacent_output_becomes_one_record_of_the_size_of_a_chunk() -> None:
    records = records_of([(COMMANDS[0], 1, 65_536, "text")] * 9)
    merged = merge_output(records)
    assert [len(record.data) for record in merged] == [CHUNK_BYTES, CHUNK_BYTES, 65_536]
    assert [record.end for record in merged] == [records[at].end for at in (3, 7, 8)]
    assert [record.time_us for record in merged] == [0, 4, 8]


def test_what_happened_to_a_command_stays_behind_its_output() -> None:
    one, other = COMMANDS
    pieces = [
        (one, 1, 100, "text"),
        (other, 1, 100, "text"),
        (one, 1, 1, "stopping"),
        (one, 1, 100, "text"),
        (other, 1, 100, "text"),
    ]
    merged = merge_output(records_of(pieces))
    assert [(record.command_id, record.kind, len(record.data)) for record in merged] == [
        (one, Kind.OUTPUT, 100),
        (other, Kind.OUTPUT, 200),
        (one, Kind.STOPPING, 2),
        (one, Kind.OUTPUT, 100),
    ]


def test_merged_records_do_not_need_the_buffer_of_the_read() -> None:
    buffer = bytearray(b"output{}")
    view = memoryview(buffer)
    records = [
        Record(Kind.OUTPUT, COMMANDS[0], 1, 0, 0, view[:6], 46),
        Record(Kind.STOPPING, COMMANDS[0], 0, 0, 6, view[6:], 88),
    ]
    merged = merge_output(records)
    buffer[:] = b"????????"
    assert [record.data for record in merged] == [b"output", b"{}"]


def test_output_ahead_is_compressed_once() -> None:
    merged = merge_output(records_of([(COMMANDS[0], 1, 65_536, "text")] * 4))
    compressor = OutputCompressor()
    frames = asyncio.run(compressor.compress_records(merged))
    batch = folded(RecordBatch(tracked(), frames=frames), merged)
    assert batch.chunk_frames == {0: frames[merged[0].end]}
    assert frames[merged[0].end] is not None


def test_output_that_is_stored_in_part_continues_behind_it() -> None:
    merged = merge_output(records_of([(COMMANDS[0], 1, 65_536, "text")] * 2))
    frames = asyncio.run(OutputCompressor().compress_records(merged))
    batch = folded(RecordBatch(tracked(65_536), frames=frames), merged)
    (chunk,) = batch.chunks
    assert (chunk.position, chunk.stream_offset) == (65_536, 65_536)
    assert bytes(chunk.data) == TEXT[1 : 1 + 65_536]
    assert batch.chunk_frames == {}
    assert folded(RecordBatch(tracked(131_072), frames=frames), merged).chunks == []
