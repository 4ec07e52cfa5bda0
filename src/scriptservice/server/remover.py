"""Removes the output of deleted commands bit by bit, so that nobody waits behind a gigabyte."""

import asyncio

import structlog

from scriptservice.errors import StoreError
from scriptservice.store import requests
from scriptservice.store.writer import Writer

AGAIN_SECONDS = 1.0

log = structlog.get_logger()


class Remover:
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
            try:
                while not await self._writer.submit(requests.remove_some, number):
                    pass
            except StoreError as error:
                log.warning("removal_waits", error=str(error))
                self._numbers.put_nowait(number)
                await asyncio.sleep(AGAIN_SECONDS)
