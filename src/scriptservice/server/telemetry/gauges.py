"""What is true at the moment somebody looks, for the metrics: asked for then, never kept.

Neither a database nor a keeper that does not answer keeps the rest from being told.
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

PATIENCE_SECONDS = 2.0
"""How long the database may take to count; a scraper waits ten seconds as a rule."""


@dataclass(frozen=True, slots=True)
class GaugeValues:
    """What was seen; None is what could not be.

    Attributes:
        queued: commands that wait in the database, not more than can be counted quickly.
        waiting: commands that wait with the keeper.
        running: scripts that it runs.
        followers: open requests that follow commands, by kind.
        lag_bytes: journal that is published and not stored.
        lag_seconds: how old the oldest record of it is.
        spool_bytes: journal that the keeper does not know to be stored.
        spool_full: whether scripts that print wait for room.
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
    """Looks.

    Args:
        reader: counts what waits.
        transport: knows the keeper's state.
        recorder: knows how far it is behind.
        feed: knows the followers.
    """

    def __init__(
        self, reader: Reader, transport: Transport, recorder: Recorder, feed: Notifier
    ) -> None:
        self._reader = reader
        self._transport = transport
        self._recorder = recorder
        self._feed = feed
        self._counting: asyncio.Task[int | None] | None = None

    async def look(self) -> GaugeValues:
        """Return what is true now."""
        queued, state = await asyncio.gather(self._queued(), self._state())
        return GaugeValues(
            queued=queued,
            waiting=state.waiting if state else None,
            running=state.running if state else None,
            followers={kind.value: count for kind, count in self._feed.followers.items()},
            lag_bytes=self._recorder.lag_bytes,
            lag_seconds=self._recorder.lag_seconds,
            spool_bytes=state.unrecorded_bytes if state else None,
            spool_full=state.full if state else None,
        )

    async def _queued(self) -> int | None:
        # One at a time: scrapes must not take all readers from a database that hangs.
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._count())
        done, _ = await asyncio.wait({self._counting}, timeout=PATIENCE_SECONDS)
        return self._counting.result() if done else None

    async def _count(self) -> int | None:
        try:
            return await self._reader.run(count_waiting)
        except StoreError:
            return None  # which is what it says; /readyz and the log say why

    async def _state(self) -> HostState | None:
        try:
            return await self._transport.state()
        except TimeoutError:
            return None
