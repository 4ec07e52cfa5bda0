"""Removes the output of deleted commands bit by bit, so that nobody waits behind a gigabyte."""

import asyncio
from functools import partial

from scriptservice.store.queries import requests
from scriptservice.store.until_stored import until_stored
from scriptservice.store.writer import Writer

AGAIN_SECONDS = 1.0


class OutputRemover:
    """Works off deleted commands in the background.

    Args:
        writer: for removing.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._numbers: asyncio.Queue[int] = asyncio.Queue()

    def remove(self, number: int) -> None:
        """Have a command removed that is marked as deleted; after a restart it is marked still."""
        self._numbers.put_nowait(number)

    async def run(self) -> None:
        """Remove until cancelled."""
        while True:
            number = await self._numbers.get()
            some = partial(self._writer.submit, requests.remove_some, number)
            while not await until_stored(some, "removal_waits", again_seconds=AGAIN_SECONDS):
                pass
