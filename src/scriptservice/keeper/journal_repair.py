"""What a keeper does with a journal that another one left: cut the torn tail, read it again."""

import os
from collections.abc import Iterator

from scriptservice.keeper.journal import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    Record,
    pack_header,
    parse_header,
    payload_intact,
    read_segment_header,
    segment_bases,
    segment_path,
)


def scan(directory: str, base: int) -> Iterator[Record]:
    """Yield the records of one segment up to the first that is torn; output without its bytes.

    The last record may be a torn output record: it is yielded with the length of the bytes that
    arrived, in ``end``.
    """
    descriptor = os.open(segment_path(directory, base), os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        offset = SEGMENT_HEADER_BYTES
        while offset + HEADER_BYTES <= size:
            raw = os.pread(descriptor, HEADER_BYTES, offset)
            parsed = parse_header(raw, 0)
            if parsed is None:
                return
            after = offset + HEADER_BYTES + parsed.length
            data = b""
            if parsed.kind == Kind.OUTPUT:
                after = min(after, size)
            else:
                raw = os.pread(descriptor, HEADER_BYTES + parsed.length, offset)
                if after > size or not payload_intact(raw, 0, parsed):
                    return
                data = raw[HEADER_BYTES:]
            yield Record(
                kind=Kind(parsed.kind),
                id=parsed.id,
                stream=parsed.stream,
                time_us=parsed.time_us,
                position=parsed.position,
                data=data,
                end=base + after,
            )
            offset = after
    finally:
        os.close(descriptor)


def output_length(record: Record, start: int) -> int:
    """Return how many bytes an OUTPUT record of a scan holds, given where the record began."""
    return record.end - start - HEADER_BYTES


def repair(directory: str) -> list[str]:
    """Cut off what the death of a keeper left half written; set aside what cannot be a segment.

    Only the end of the last segment can be half written. Damage elsewhere is left as it is: the
    reader reports it and goes on with the next segment.

    Returns:
        A sentence for each thing that was found and mended.
    """
    notes: list[str] = []
    for base in reversed(segment_bases(directory)):
        path = segment_path(directory, base)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            header = read_segment_header(descriptor)
            if header is not None and header[1] == base:
                notes += _repair_tail(directory, descriptor, base)
                break
            os.rename(path, path + ".damaged")
            notes.append(f"set aside journal segment {base}: it has no valid header")
        finally:
            os.close(descriptor)
    return notes


def _repair_tail(directory: str, descriptor: int, base: int) -> list[str]:
    size = os.fstat(descriptor).st_size
    start = end = base + SEGMENT_HEADER_BYTES
    last: Record | None = None
    for record in scan(directory, base):
        start, end, last = end, record.end, record
    if last is not None and last.kind == Kind.OUTPUT:
        if output_length(last, start):
            _shorten(descriptor, base, start, last)
        else:
            end = start  # of no bytes: what is rescued next would begin at the same position
    if base + size <= end:
        return []
    os.ftruncate(descriptor, end - base)
    return [f"cut {base + size - end} bytes off journal segment {base}: half written"]


def _shorten(descriptor: int, base: int, start: int, record: Record) -> None:
    """Make the header of a torn output record name the bytes that arrived."""
    length = output_length(record, start)
    header = pack_header(
        Kind.OUTPUT, record.stream, length, record.time_us, record.position, record.id
    )
    os.pwrite(descriptor, header, start - base)
