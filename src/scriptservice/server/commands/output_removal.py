"""Removes the output of deleted commands in small steps, so that no other write waits long."""

import asyncio
from functools import partial

from scriptservice.store.queries import deletions
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

PAUSE_SECONDS = 1.0
"""Pause between two tries while the database takes no writes."""


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

    async def run(self) -> None:
        """Remove the commands whose removal is scheduled, until this task is cancelled."""
        # An earlier server may have ended before it gave back all space of removed output to the
        # file system.
        self._writer.release_space()
        while True:
            number = await self._numbers.get()
            step = partial(self._writer.submit, deletions.remove_some, number)
            while not await until_stored(step, "removal_waits", again_seconds=PAUSE_SECONDS):
                pass
            if self._numbers.empty():
                self._writer.release_space()
