"""Merges the records of a large read into few records with large pieces of output.

A pipe holds 64 KiB, so a script that prints much leaves many records. What follows (folding,
compressing, storing) costs less for few large pieces. Only the recorder calls this module.
"""

from scriptservice.protocol.journal_format import Kind, Record
from scriptservice.store.queries.output import CHUNK_BYTES


class _Run:
    """Output records of one stream of a command that follow each other without a gap."""

    __slots__ = ("first", "last", "parts", "size")

    def __init__(self, first: Record) -> None:
        self.first = self.last = first
        self.parts = [first.data]
        self.size = len(first.data)

    def takes(self, record: Record) -> bool:
        """Append a record, unless it is of the other stream, too large, or behind a gap."""
        follows = (
            record.stream == self.first.stream
            and record.position == self.first.position + self.size
            and self.size + len(record.data) <= CHUNK_BYTES
        )
        if follows:
            self.parts.append(record.data)
            self.size += len(record.data)
            self.last = record
        return follows

    def merged(self) -> Record:
        return self.first._replace(data=b"".join(self.parts), end=self.last.end)


def merge_output(records: list[Record]) -> list[Record]:
    """Return the same records, with adjacent output of each command merged up to `CHUNK_BYTES`.

    The payloads are copied, so the buffer of the read can be used again. A merged record has the
    place and the time of its first part. The records of one command stay in
    order; those of different commands do not depend on each other.
    """
    merged: list[Record | _Run] = []
    runs: dict[bytes, _Run] = {}
    for record in records:
        if record.kind is not Kind.OUTPUT:
            runs.pop(record.command_id, None)
            merged.append(record._replace(data=bytes(record.data)))
            continue
        run = runs.get(record.command_id)
        if run is None or not run.takes(record):
            runs[record.command_id] = run = _Run(record)
            merged.append(run)
    return [each.merged() if isinstance(each, _Run) else each for each in merged]
