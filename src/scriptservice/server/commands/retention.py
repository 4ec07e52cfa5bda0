"""Retention: deletes the oldest finished commands, in order of submission, beyond given limits.

`composition` builds one `Retention` if a limit is set, and tells it which commands have ended or
were deleted. A round costs nothing while nothing has changed. A command is deleted in the same two
steps as by a user: it is marked, then removed in small parts by `OutputRemover`. So a server that
dies in between leaves nothing that the next server does not complete. This module knows nothing of
followers, metrics and the log, which hear of it by a callback.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import structlog

from scriptservice.protocol.clock import now_us
from scriptservice.server.commands.output_removal import OutputRemover
from scriptservice.store.queries.deletions import Pruning, mark_pruned
from scriptservice.store.queries.retention.finished_blocks import (
    NO_COMMANDS,
    FinishedBlock,
    FinishedCommand,
    block_of,
    blocks_of_commands,
    finished_commands,
    read_blocks,
    scan_blocks,
    sum_of,
)
from scriptservice.store.reader import Reader
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

ROUND_SECONDS = 1.0
"""Time between two rounds."""

COMMANDS_AT_ONCE = 64
"""Number of commands that one transaction marks, which takes a few milliseconds."""

REST_RATIO = 3.0
"""Length of the pause after some commands were pruned, as a multiple of the time that this took.
The time includes the wait for the writer, so the pauses become longer while clients submit."""

RECOUNT_SECONDS = 3600.0
"""Time between two counts of everything. They find what other programs have changed."""

LOG_SECONDS = 60.0
"""Shortest time between two lines of the log."""

LOOKUP_COMMANDS = 500
LOOKUP_BLOCKS = 64

_DAY_MICROSECONDS = 24 * 3600 * 1_000_000

Item = TypeVar("Item")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """What is kept of finished commands; None for no limit.

    Attributes:
        days: how long a command is kept after its end.
        commands: how many commands are kept.
        output_bytes: how much output of them is kept, as it is stored.
    """

    days: float | None = None
    commands: int | None = None
    output_bytes: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return (self.days, self.commands, self.output_bytes) != (None, None, None)


class FinishedTotals:
    """What is stored of finished commands: the sums of each block, and of all blocks.

    Attributes:
        commands: number of finished commands.
        stored_bytes: size of their output as it is stored.
    """

    def __init__(self) -> None:
        self._blocks: dict[int, FinishedBlock] = {}
        self.commands = 0
        self.stored_bytes = 0

    def set_block(self, block: int, now: FinishedBlock) -> None:
        """Replace the sums of a block."""
        before = self._blocks.pop(block, NO_COMMANDS)
        self.commands += now.commands - before.commands
        self.stored_bytes += now.stored_bytes - before.stored_bytes
        if now.commands:
            self._blocks[block] = now

    def first_block(self, finished_before: float = float("inf")) -> int | None:
        """Return the first block that has a command which ended before a time, None if none has.

        Args:
            finished_before: time in microseconds since 1970 UTC.
        """
        return min(
            (
                block
                for block, sums in self._blocks.items()
                if sums.earliest_finish_at is not None and sums.earliest_finish_at < finished_before
            ),
            default=None,
        )


class Retention:
    """Deletes the oldest finished commands beyond the limits.

    Args:
        limits: what is kept.
        reader: reads from the database.
        writer: marks commands as deleted.
        remover: removes the commands that are marked.
        on_pruned: called with the commands that were just marked.
    """

    def __init__(
        self,
        limits: RetentionLimits,
        *,
        reader: Reader,
        writer: Writer,
        remover: OutputRemover,
        on_pruned: Callable[[Sequence[FinishedCommand]], None],
    ) -> None:
        self._limits = limits
        self._reader = reader
        self._writer = writer
        self._remover = remover
        self._on_pruned = on_pruned
        self._totals = FinishedTotals()
        self._ended: set[UUID] = set()
        self._changed_blocks: set[int] = set()
        self._unlogged_commands = self._unlogged_bytes = 0
        self._logged_at = float("-inf")

    # Changes

    def ended(self, command_ids: Iterable[UUID]) -> None:
        """Count commands that have ended; called after the end is stored."""
        self._ended.update(command_ids)

    def deleted(self, number: int) -> None:
        """Count a command that a user has deleted; called after the mark is stored.

        Args:
            number: the command's number in the database.
        """
        self._changed_blocks.add(block_of(number))

    # The work

    async def run(self) -> None:
        """Prune commands until this task is cancelled."""
        clock = asyncio.get_running_loop().time
        recount_at = clock()
        try:
            while True:
                if clock() >= recount_at:
                    await self._count()
                    recount_at = clock() + RECOUNT_SECONDS
                await until_stored(self._refresh, "retention_waits")
                await until_stored(self._prune, "retention_waits")
                if clock() >= self._logged_at + LOG_SECONDS:
                    self._log()
                await asyncio.sleep(ROUND_SECONDS)
        finally:
            self._log()

    async def _count(self) -> None:
        """Read the sums of all blocks, in the slices of time of a scan."""
        totals = FinishedTotals()
        block: int | None = 0
        while block is not None:
            first = block
            part = await until_stored(
                lambda first=first: self._reader.scan(scan_blocks, first),  # type: ignore[misc]
                "retention_waits",
            )
            for each, sums in part.blocks.items():
                totals.set_block(each, sums)
            block = part.next_block
        self._totals = totals

    async def _refresh(self) -> None:
        """Read the blocks again in which commands have ended or were deleted."""
        for ids in _parts(list(self._ended), LOOKUP_COMMANDS):
            self._changed_blocks |= await self._reader.run(blocks_of_commands, ids)
            self._ended.difference_update(ids)
        for blocks in _parts(sorted(self._changed_blocks), LOOKUP_BLOCKS):
            # Forget the blocks before the read: a command may end during the read.
            self._changed_blocks.difference_update(blocks)
            try:
                found = await self._reader.run(read_blocks, blocks)
            except BaseException:
                self._changed_blocks.update(blocks)
                raise
            for block, sums in found.items():
                self._totals.set_block(block, sums)

    async def _prune(self) -> None:
        """Prune until no limit is exceeded."""
        while (block := self._next_block()) is not None:
            # The sums may be old if another server has pruned too. So the block is read again.
            finished = await self._reader.run(finished_commands, block)
            self._totals.set_block(block, sum_of(finished))
            excess = self._excess(finished)
            for commands in _parts(excess, COMMANDS_AT_ONCE):
                await self._prune_commands(commands)
            if excess:
                found = await self._reader.run(read_blocks, [block])
                self._totals.set_block(block, found[block])

    def _exceeds(self, commands: int, stored_bytes: int) -> bool:
        kept, kept_bytes = self._limits.commands, self._limits.output_bytes
        return (kept is not None and commands > kept) or (
            kept_bytes is not None and stored_bytes > kept_bytes
        )

    def _finished_before(self) -> float:
        """Return the time, in microseconds since 1970 UTC, before which ends are too long ago."""
        if self._limits.days is None:
            return float("-inf")
        return now_us() - self._limits.days * _DAY_MICROSECONDS

    def _next_block(self) -> int | None:
        """Return the first block that may have commands to prune; None if no limit is exceeded."""
        if self._exceeds(self._totals.commands, self._totals.stored_bytes):
            return self._totals.first_block()
        if self._limits.days is None:
            return None
        return self._totals.first_block(self._finished_before())

    def _excess(self, finished: Sequence[FinishedCommand]) -> list[FinishedCommand]:
        """Return the commands to prune among the finished commands of the first block.

        Args:
            finished: the commands, in order of submission.
        """
        commands, stored_bytes = self._totals.commands, self._totals.stored_bytes
        finished_before = self._finished_before()
        excess: list[FinishedCommand] = []
        for command in finished:
            if self._exceeds(commands, stored_bytes) or command.finished_at < finished_before:
                excess.append(command)
                commands -= 1
                stored_bytes -= command.stored_bytes
        return excess

    async def _prune_commands(self, commands: Sequence[FinishedCommand]) -> None:
        """Mark commands, wait until they are removed, then rest."""
        clock = asyncio.get_running_loop().time
        began = clock()
        request = Pruning(tuple(command.number for command in commands), now_us())
        marked = await self._writer.submit(mark_pruned, request)
        pruned = [command for command in commands if command.number in marked]
        self._unlogged_commands += len(pruned)
        self._unlogged_bytes += sum(command.stored_bytes for command in pruned)
        self._on_pruned(pruned)
        for command in pruned:
            self._remover.remove(command.number)
        await self._remover.wait_until_removed()
        await asyncio.sleep(REST_RATIO * (clock() - began))

    def _log(self) -> None:
        if not self._unlogged_commands:
            return
        log.info(
            "commands_pruned", commands=self._unlogged_commands, output_bytes=self._unlogged_bytes
        )
        self._unlogged_commands = self._unlogged_bytes = 0
        self._logged_at = asyncio.get_running_loop().time()


def _parts(items: Sequence[Item], length: int) -> Iterator[Sequence[Item]]:
    """Yield the items in parts of at most ``length`` items."""
    for start in range(0, len(items), length):
        yield items[start : start + length]
