"""The metrics that are gauges. Their values are read at each scrape.

If the database or the keeper does not answer, only the gauges that need that answer are missing.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from scriptservice.errors import StoreError
from scriptservice.fleet.recorder import Recorder
from scriptservice.fleet.transport import HostState, Transport
from scriptservice.server.commands.notifier import Notifier
from scriptservice.store.queries.dispatching import count_waiting
from scriptservice.store.reader import Reader

COUNT_SECONDS = 2.0
"""How long a scrape waits for the number of queued commands. By default, Prometheus waits ten
seconds for the whole scrape."""


@dataclass(frozen=True, slots=True)
class GaugeValues:
    """The values of all gauges at one moment. None means that a value could not be read.

    Attributes:
        queued: number of commands that wait in the database. `count_waiting` counts only up to a
            limit, so that the count is quick.
        waiting: number of commands that wait in the keeper.
        running: number of scripts that the keeper runs.
        followers: number of open requests that follow commands, by kind.
        lag_bytes: size of the part of the journal that the recorder has not stored yet.
        lag_seconds: age of the oldest record in that part of the journal.
        spool_bytes: size of the part of the journal that no server has confirmed to the keeper as
            stored.
        spool_full: whether the keeper has no room for more journal. Scripts that print then wait.
    """

    queued: int | None = None
    waiting: int | None = None
    running: int | None = None
    followers: Mapping[str, int] = field(default_factory=dict)
    lag_bytes: int = 0
    lag_seconds: float = 0.0
    spool_bytes: int | None = None
    spool_full: bool | None = None


class Gauges:
    """Reads the gauges.

    Args:
        reader: counts the queued commands.
        transport: returns the keeper's state.
        recorder: knows how much of the journal is not stored yet.
        notifier: counts the followers.
    """

    def __init__(
        self, reader: Reader, transport: Transport, recorder: Recorder, notifier: Notifier
    ) -> None:
        self._reader = reader
        self._transport = transport
        self._recorder = recorder
        self._notifier = notifier
        self._counting: asyncio.Task[int | None] | None = None

    async def read(self) -> GaugeValues:
        """Return the values at this moment."""
        queued, state = await asyncio.gather(self._queued(), self._state())
        return GaugeValues(
            queued=queued,
            waiting=state.waiting if state else None,
            running=state.running if state else None,
            followers={kind.value: count for kind, count in self._notifier.followers.items()},
            lag_bytes=self._recorder.lag_bytes,
            lag_seconds=self._recorder.lag_seconds,
            spool_bytes=state.unrecorded_bytes if state else None,
            spool_full=state.full if state else None,
        )

    async def _queued(self) -> int | None:
        # Run only one count at a time. Otherwise the counts of several scrapes could occupy all
        # reader threads while a database does not answer.
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._count())
        done, _ = await asyncio.wait({self._counting}, timeout=COUNT_SECONDS)
        return self._counting.result() if done else None

    async def _count(self) -> int | None:
        try:
            return await self._reader.run(count_waiting)
        except StoreError:
            return None  # the gauge is missing; /readyz and the log give the reason

    async def _state(self) -> HostState | None:
        try:
            return await self._transport.state()
        except TimeoutError:
            return None
