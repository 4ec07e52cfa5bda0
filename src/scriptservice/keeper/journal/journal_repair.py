"""What a keeper does with a journal that another one left: mend its end, read it again."""

import mmap
import os
import re
from collections.abc import Iterator
from uuid import UUID

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
    """Cut off what a death left half written; set aside what is damaged or cannot be a segment.

    Only the last segment is looked at, since only it is written to. Damage elsewhere is left as
    it is: the reader reports it and goes on with the next segment.

    Returns:
        A sentence for each thing that was found and mended.
    """
    notes: list[str] = []
    for base in reversed(segment_bases(directory)):
        path = segment_path(directory, base)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            header = read_segment_header(descriptor)
            if header is None and next(scan(directory, base), None) is not None:
                # Its records tell who may have survived.
                _rewrite_header(directory, descriptor, base)
                header = read_segment_header(descriptor)
                notes.append(f"mended the header of journal segment {base}")
            if header is not None and header[1] == base:
                notes += _repair_tail(directory, descriptor, base)
                break
            os.rename(path, path + ".damaged")
            notes.append(f"set aside journal segment {base}: it has no valid header")
        finally:
            os.close(descriptor)
    return notes


def _rewrite_header(directory: str, descriptor: int, base: int) -> None:
    """Write a segment's header again; with the id of its neighbours, or what looks like its own.

    If that is not the one it was, the server takes the database for an older one: nothing starts.
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
            length = _without_zeros(descriptor, start + HEADER_BYTES - base, length)
        if length:
            end = start + HEADER_BYTES + length
            _shorten(descriptor, base, start, last, length)
        else:
            end = start  # of no bytes: what is rescued next would begin at the same position
    if base + size <= end:
        return []
    note = f"cut {base + size - end} bytes off journal segment {base}: "
    if _is_half_written(descriptor, end - base, size):
        note += "half written"
    else:
        note += _set_aside(directory, descriptor, base, end)
    os.ftruncate(descriptor, end - base)
    return [note]


def _without_zeros(descriptor: int, offset: int, length: int) -> int:
    """Return how many bytes are left of output without the zeros at its end.

    A power cut can leave a file with its new size and without its new bytes. Whether a script
    printed the zeros nobody can tell; its output is said to be incomplete in any case.
    """
    return len(os.pread(descriptor, length, offset).rstrip(b"\0"))


def _is_half_written(descriptor: int, offset: int, size: int) -> bool:
    """Whether what follows the last record is the beginning of one, or zeros after a power cut."""
    raw = os.pread(descriptor, HEADER_BYTES, offset)
    if len(raw) < HEADER_BYTES:
        return True
    parsed = parse_header(raw, 0)
    if parsed is not None:
        return offset + HEADER_BYTES + parsed.length > size
    rest = os.pread(descriptor, size - offset, offset)
    return not rest.strip(b"\0")


def _set_aside(directory: str, descriptor: int, base: int, end: int) -> str:
    """Copy what follows a damaged record to a file of its own; return what to say of it."""
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
    except OSError as error:  # on a full disk: the start matters more
        return f"damaged; cannot keep them in {name}: {error.strerror}"
    return f"damaged; they are in {name}"


def damaged_path(directory: str, end: int) -> str:
    """Return where that is which was set aside when the journal was cut at a position."""
    return os.path.join(directory, f"{end:020d}.damaged")


# The kind of a STARTED or CLOSED record, three bytes of nothing, then its time.
_MAY_BE_WHOLE = re.compile(b"[%c%c]\\0\\0\\0" % (Kind.STARTED, Kind.CLOSED), re.DOTALL)
_KIND_OFFSET = 8


def intact_records(path: str) -> Iterator[Record]:
    """Yield the starts and ends that can still be read in what was set aside.

    Damage is a few bytes; what stands behind it is as it was written, but for its place.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < HEADER_BYTES:
            return
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
            for found in _MAY_BE_WHOLE.finditer(raw):
                start = found.start() - _KIND_OFFSET
                if start >= 0 and (record := _whole_record(raw[start : start + _LONGEST], start)):
                    yield record


_LONGEST = HEADER_BYTES + 4096


def _whole_record(raw: bytes, start: int) -> Record | None:
    """Return the record at the beginning of some bytes, None if they only look like one."""
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
        id=parsed.id,
        stream=parsed.stream,
        time_us=parsed.time_us,
        position=parsed.position,
        data=raw[HEADER_BYTES:end],
        end=start + end,
    )


def _shorten(descriptor: int, base: int, start: int, record: Record, length: int) -> None:
    """Make the header of a torn output record name the bytes that arrived."""
    header = pack_output_header(
        Kind.OUTPUT, record.stream, length, record.time_us, record.position, record.id
    )
    os.pwrite(descriptor, header, start - base)
