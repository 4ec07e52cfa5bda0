"""Removes the output of deleted commands in small steps, so that no other write waits long."""

import asyncio
from functools import partial

from scriptservice.store.queries import deletions
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

PAUSE_SECONDS = 1.0
"""Pause between two tries while the database takes no writes."""

COMMANDS_AT_ONCE = 64
"""Number of commands that are removed together, if they have little output."""

REST_RATIO = 1.0
"""Length of the pause after a step, as a multiple of the time that the step took."""


class OutputRemover:
    """Removes deleted commands in the background.

    Args:
        writer: writes to the database.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._numbers: asyncio.Queue[int] = asyncio.Queue()

    def remove(self, number: int) -> None:
        """Schedule the removal of a command that is marked as deleted in the database.

        The mark survives a restart. The next server then schedules the removal again.

        Args:
            number: the command's number in the database.
        """
        self._numbers.put_nowait(number)

    async def wait_until_removed(self) -> None:
        """Return when all commands whose removal was scheduled are removed."""
        await self._numbers.join()

    async def run(self) -> None:
        """Remove the commands whose removal is scheduled, until this task is cancelled."""
        # An earlier server may have ended before it gave back all space of removed output to the
        # file system.
        self._writer.release_space()
        clock = asyncio.get_running_loop().time
        while True:
            left = [await self._numbers.get()]
            while len(left) < COMMANDS_AT_ONCE and not self._numbers.empty():
                left.append(self._numbers.get_nowait())
            while left:
                began = clock()
                step = partial(self._remove_some, left)
                removed = await until_stored(step, "removal_waits", again_seconds=PAUSE_SECONDS)
                left = [number for number in left if number not in removed]
                for _ in removed:
                    self._numbers.task_done()
                await asyncio.sleep(REST_RATIO * (clock() - began))
            if self._numbers.empty():
                self._writer.release_space()

    async def _remove_some(self, numbers: list[int]) -> list[int]:
        """Do one step, and return the numbers of the commands that are completely removed."""
        steps = [self._writer.submit(deletions.remove_some, number) for number in numbers]
        results = await asyncio.gather(*steps)
        return [number for number, removed in zip(numbers, results, strict=True) if removed]
