"""Repairs and reads the journal of an earlier keeper; each keeper does this at its start."""

import mmap
import os
import re
from collections.abc import Iterator
from uuid import UUID

from scriptservice.keeper.journal.journal_writer import DRAFT_SUFFIX
from scriptservice.keeper.system.linux import boot_id
from scriptservice.protocol.journal_format import (
    HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Kind,
    Record,
    pack_output_header,
    parse_header,
    payload_intact,
    read_segment_header,
    segment_bases,
    segment_header,
    segment_path,
)


def scan(directory: str, base: int) -> Iterator[Record]:
    """Yield the records of one segment, up to the first record that is not intact.

    An output record is yielded without its bytes. The last record may be an output record of which
    only a part was written. The record's ``end`` is then the end of that part.

    Args:
        directory: the directory of the segments.
        base: the journal position at which the segment begins.
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
                command_id=parsed.command_id,
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
    """Return how many bytes of output a record from `scan` holds.

    Args:
        record: an OUTPUT record.
        start: the journal position at which the record begins.
    """
    return record.end - start - HEADER_BYTES


def repair(directory: str) -> list[str]:
    """Cut off half-written records; set aside damaged records and invalid segments.

    A segment that a keeper had not completed when it died is deleted. It contains at most a
    snapshot.

    Only the last segment is repaired, since the keeper writes only to the last segment. Damage in
    an earlier segment stays: the reader reports the damage and continues with the next segment.

    Args:
        directory: the directory of the segments.

    Returns:
        A note for the log about each repair.
    """
    notes: list[str] = []
    for name in os.listdir(directory):
        if name.endswith(DRAFT_SUFFIX):
            os.unlink(os.path.join(directory, name))
    for base in reversed(segment_bases(directory)):
        path = segment_path(directory, base)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            header = read_segment_header(descriptor)
            if header is None and next(scan(directory, base), None) is not None:
                # Do not set this segment aside: its records tell which scripts may still run.
                _rewrite_header(directory, descriptor, base)
                header = read_segment_header(descriptor)
                notes.append(f"rewrote the header of journal segment {base}")
            if header is not None and header[1] == base:
                notes += _repair_tail(directory, descriptor, base)
                break
            os.rename(path, path + ".damaged")
            notes.append(f"set aside journal segment {base}: it has no valid header")
        finally:
            os.close(descriptor)
    return notes


def _rewrite_header(directory: str, descriptor: int, base: int) -> None:
    """Write a segment's header again, with the journal id of another segment.

    If no other segment has a valid header, the id comes from the damaged header itself. If that id
    is wrong, the server concludes that the database is an older copy, and starts no script.
    """
    journal_id = UUID(bytes=os.pread(descriptor, 16, 8))
    for other in segment_bases(directory):
        neighbour = os.open(segment_path(directory, other), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if header := read_segment_header(neighbour):
                journal_id = header[0]
        finally:
            os.close(neighbour)
    os.pwrite(descriptor, segment_header(journal_id, base), 0)


def _repair_tail(directory: str, descriptor: int, base: int) -> list[str]:
    size = os.fstat(descriptor).st_size
    start = end = base + SEGMENT_HEADER_BYTES
    last: Record | None = None
    boot = boot_id()
    written_under = boot
    for record in scan(directory, base):
        start, end, last = end, record.end, record
        if record.kind in (Kind.KEEPER, Kind.SNAPSHOT):
            written_under = record.fields().get("identity", {}).get("boot", boot)
    if last is not None and last.kind == Kind.OUTPUT:
        length = output_length(last, start)
        if written_under != boot:
            length = _length_without_zeros(descriptor, start + HEADER_BYTES - base, length)
        if length:
            end = start + HEADER_BYTES + length
            _shorten_record(descriptor, base, start, last, length)
        else:
            # Drop the record, because it has no output left. If it stayed, the next record of the
            # command's output would have the same position.
            end = start
    if base + size <= end:
        return []
    note = f"cut {base + size - end} bytes off journal segment {base}: "
    if _is_half_written(descriptor, end - base, size):
        note += "half written"
    else:
        note += _set_aside(directory, descriptor, base, end)
    os.ftruncate(descriptor, end - base)
    return [note]


def _length_without_zeros(descriptor: int, offset: int, length: int) -> int:
    """Return the length of output without the zeros at its end.

    After a power cut, a file may have its new size but not its new bytes. A reader then gets zeros
    in place of the bytes. If the script itself printed zeros at the end, these zeros look the same
    and are cut off too. In both cases the command's output is reported as incomplete.
    """
    return len(os.pread(descriptor, length, offset).rstrip(b"\0"))


def _is_half_written(descriptor: int, offset: int, size: int) -> bool:
    """Return whether the rest of a segment is an incomplete record, or zeros after a power cut."""
    raw = os.pread(descriptor, HEADER_BYTES, offset)
    if len(raw) < HEADER_BYTES:
        return True
    parsed = parse_header(raw, 0)
    if parsed is not None:
        return offset + HEADER_BYTES + parsed.length > size
    rest = os.pread(descriptor, size - offset, offset)
    return not rest.strip(b"\0")


def _set_aside(directory: str, descriptor: int, base: int, end: int) -> str:
    """Copy a damaged record and the rest of its segment to a file.

    Returns:
        The last part of the note for the log.
    """
    path = damaged_path(directory, end)
    name = os.path.basename(path)
    try:
        copy = os.open(
            path,
            os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
            0o600,
        )
        try:
            offset = end - base
            while sent := os.sendfile(copy, descriptor, offset, 1 << 30):
                offset += sent
        finally:
            os.close(copy)
    except OSError as error:  # for example the disk is full; the keeper must start nevertheless
        return f"damaged; cannot keep them in {name}: {error.strerror}"
    return f"damaged; they are in {name}"


def damaged_path(directory: str, end: int) -> str:
    """Return the path of the file with the bytes that were cut off at a journal position."""
    return os.path.join(directory, f"{end:020d}.damaged")


# This matches a part of a record's header: the kind (STARTED or CLOSED) and three zero bytes.
_MAY_BE_INTACT = re.compile(b"[%c%c]\\0\\0\\0" % (Kind.STARTED, Kind.CLOSED), re.DOTALL)
_KIND_OFFSET = 8
_MAX_RECORD_BYTES = HEADER_BYTES + 4096
"""STARTED and CLOSED records are far shorter than this."""


def intact_records(path: str) -> Iterator[Record]:
    """Yield the STARTED and CLOSED records that are still intact in a file that was set aside.

    Usually only a few bytes are damaged, and the records after these bytes are intact. But the
    journal positions of these records are not known, so each record's ``end`` is an offset in the
    file.

    Args:
        path: a path that `damaged_path` returned.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < HEADER_BYTES:
            return
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
            for found in _MAY_BE_INTACT.finditer(raw):
                start = found.start() - _KIND_OFFSET
                if start >= 0 and (
                    record := _intact_record(raw[start : start + _MAX_RECORD_BYTES], start)
                ):
                    yield record


def _intact_record(raw: bytes, start: int) -> Record | None:
    """Return the record at the beginning of some bytes, or None if no intact record begins there.

    Args:
        raw: the bytes; they may continue after the record.
        start: the offset of the bytes in their file.
    """
    if len(raw) < HEADER_BYTES:
        return None
    parsed = parse_header(raw, 0)
    if parsed is None or HEADER_BYTES + parsed.length > len(raw):
        return None
    if not payload_intact(raw, 0, parsed):
        return None
    end = HEADER_BYTES + parsed.length
    return Record(
        kind=Kind(parsed.kind),
        command_id=parsed.command_id,
        stream=parsed.stream,
        time_us=parsed.time_us,
        position=parsed.position,
        data=raw[HEADER_BYTES:end],
        end=start + end,
    )


def _shorten_record(descriptor: int, base: int, start: int, record: Record, length: int) -> None:
    """Rewrite an output record's header, so that it states the length that was really written."""
    header = pack_output_header(
        Kind.OUTPUT, record.stream, length, record.time_us, record.position, record.command_id
    )
    os.pwrite(descriptor, header, start - base)
