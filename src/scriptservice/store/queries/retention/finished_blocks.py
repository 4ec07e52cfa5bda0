"""How many finished commands there are and how much of their output is stored, block by block.

A block is a range of `BLOCK_COMMANDS` numbers of commands. To find out which commands retention has
to prune, the server keeps the sums of each block in memory, and reads a block again only if one of
its commands has ended or was deleted. So neither many commands nor many unfinished commands make a
round of retention expensive. The functions are for readers.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Select, func, literal, select

from scriptservice.model import FINAL
from scriptservice.store.database.tables import commands
from scriptservice.store.queries.command_rows import THERE
from scriptservice.store.queries.listing.time_slice import TimeSlice

BLOCK_COMMANDS = 1024
"""Numbers of a block. The sums of a million commands are about a thousand objects, and reading one
block takes about a millisecond."""

SCAN_BLOCKS = 16
"""Blocks that one step of `scan_blocks` reads, which takes about 20 ms."""

_IS_FINISHED = (commands.c.status.in_(sorted(FINAL)), THERE)
_STORED_BYTES = func.coalesce(
    # Commands that were stored before there was this column have no value. All their output was
    # stored as it was printed.
    commands.c.stored_bytes,
    commands.c.stdout_bytes + commands.c.stderr_bytes,
)
_BLOCK = commands.c.number.op("/")(literal(BLOCK_COMMANDS, literal_execute=True))


class FinishedCommand(NamedTuple):
    """A finished command, as far as retention needs it.

    Attributes:
        number: number of the command.
        id: id of the command.
        stored_bytes: size of its output as it is stored, which may be compressed.
        finished_at: when it ended, in microseconds since 1970 UTC.
    """

    number: int
    id: UUID
    stored_bytes: int
    finished_at: int


@dataclass(frozen=True, slots=True)
class FinishedBlock:
    """The sums of the finished commands of one block.

    Attributes:
        commands: number of finished commands that are not deleted.
        stored_bytes: size of their output as it is stored.
        earliest_finish_at: when the first of them ended, in microseconds since 1970 UTC; None if
            there is no finished command.
    """

    commands: int = 0
    stored_bytes: int = 0
    earliest_finish_at: int | None = None


NO_COMMANDS = FinishedBlock()


def block_of(number: int) -> int:
    """Return the block of a command's number."""
    return number // BLOCK_COMMANDS


def sum_of(finished: Sequence[FinishedCommand]) -> FinishedBlock:
    """Return the sums of all finished commands of a block."""
    return FinishedBlock(
        len(finished),
        sum(command.stored_bytes for command in finished),
        min((command.finished_at for command in finished), default=None),
    )


def finished_commands(connection: Connection, block: int) -> list[FinishedCommand]:
    """Return the finished commands of a block, in order of submission."""
    query = (
        select(
            commands.c.number,
            commands.c.id,
            _STORED_BYTES,
            func.coalesce(commands.c.finished_at, commands.c.created_at),
        )
        .where(*_is_in(block, block + 1), *_IS_FINISHED)
        .order_by(commands.c.number)
    )
    return [FinishedCommand(*row) for row in connection.execute(query)]


def blocks_of_commands(connection: Connection, ids: Sequence[UUID]) -> set[int]:
    """Return the blocks of commands, without those of commands that are removed."""
    query = select(commands.c.number).where(commands.c.id.in_(ids))
    return {block_of(number) for number in connection.execute(query).scalars()}


def read_blocks(connection: Connection, blocks: Sequence[int]) -> dict[int, FinishedBlock]:
    """Return the sums of some blocks."""
    found = dict.fromkeys(blocks, NO_COMMANDS)
    for block in blocks:
        found.update(_sums(connection, block, block + 1))
    return found


@dataclass(frozen=True, slots=True)
class BlockScan:
    """A part of all blocks.

    Attributes:
        blocks: the blocks that have finished commands.
        next_block: where the next part begins; None after the last part.
    """

    blocks: dict[int, FinishedBlock]
    next_block: int | None


def scan_blocks(connection: Connection, time_slice: TimeSlice, first: int) -> BlockScan:
    """Return the sums of all blocks from ``first`` on, as many as the time slice allows."""
    found: dict[int, FinishedBlock] = {}
    has_time = True
    while has_time:
        began = time.monotonic()
        block = _next_block(connection, first)
        if block is None:
            return BlockScan(found, None)
        first = block + SCAN_BLOCKS
        found.update(_sums(connection, block, first))
        has_time = time_slice.spend(time.monotonic() - began)
    return BlockScan(found, first)


def _next_block(connection: Connection, first: int) -> int | None:
    """Return the first block from ``first`` on that has any command; None if there is none."""
    query = select(func.min(commands.c.number)).where(commands.c.number >= first * BLOCK_COMMANDS)
    number: int | None = connection.execute(query).scalar()
    return None if number is None else block_of(number)


def _sums(connection: Connection, first: int, end: int) -> dict[int, FinishedBlock]:
    query: Select[Any] = (
        select(
            _BLOCK.label("block"),
            func.count(),
            func.sum(_STORED_BYTES),
            func.min(func.coalesce(commands.c.finished_at, commands.c.created_at)),
        )
        .where(*_is_in(first, end), *_IS_FINISHED)
        .group_by("block")
    )
    return {
        int(block): FinishedBlock(count, int(stored_bytes), earliest)
        for block, count, stored_bytes, earliest in connection.execute(query)
    }


def _is_in(first: int, end: int) -> tuple[Any, ...]:
    number = commands.c.number
    return number >= first * BLOCK_COMMANDS, number < end * BLOCK_COMMANDS
