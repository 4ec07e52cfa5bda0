"""Sessions in the database, and in the server's memory."""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from scriptservice.errors import StoreUnavailableError
from scriptservice.server.access.page_sessions import IDLE_SECONDS, LIFE_SECONDS, PageSessions
from scriptservice.server.access.valid_tokens import ValidTokens
from scriptservice.store.database.engine import Database
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries import sessions
from scriptservice.store.queries.tokens import Token, digest
from scriptservice.store.writer import Writer
from support.service import eventually
from support.store import Store

TOKEN = Token("admin", "admin", digest("ss_text"), 1)
SECOND = 1_000_000


def kept(number: int, used_at: int = 7) -> sessions.StoredSession:
    return sessions.StoredSession(bytes([number]) * 32, TOKEN.sha256, 5, used_at)


def all_of(store: Store) -> list[sessions.StoredSession]:
    return sorted(store.read(sessions.all_sessions), key=lambda each: each.sha256)


def test_sessions_are_stored_until_they_end(store: Store) -> None:
    store.write(sessions.add_sessions, kept(1), kept(2), kept(3))
    store.write(sessions.add_sessions, kept(2))  # repeated, as after a commit in doubt
    assert all_of(store) == [kept(1), kept(2), kept(3)]
    store.write(sessions.delete_sessions, kept(1).sha256, b"nobody's")
    store.write(sessions.delete_sessions, kept(1).sha256)
    assert all_of(store) == [kept(2), kept(3)]


def test_uses_and_ends_are_stored(store: Store) -> None:
    store.write(sessions.add_sessions, kept(1), kept(2), kept(3))
    noted = sessions.SessionUpdate({kept(1).sha256: 99, b"gone": 98}, (kept(2).sha256,))
    store.write(sessions.update_sessions, noted, sessions.SessionUpdate({}, ()))
    assert all_of(store) == [kept(1, used_at=99), kept(3)]


def test_a_restored_database_has_no_sessions(store: Store) -> None:
    host = host_store.StoredHost("alpha", "keeper", "journal", 0, "place", "1.0", 9)
    store.write(sessions.add_sessions, kept(1))
    store.write(host_store.take_over_host, host_store.HostTakeover(host, restored=False))
    assert all_of(store) == [kept(1)]
    store.write(
        host_store.take_over_host, host_store.HostTakeover(host, restored=True, start_queued=True)
    )
    assert all_of(store) == []


# Sessions in the server's memory


class Clock:
    """A clock in microseconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_795_450_800_000_000

    def __call__(self) -> int:
        return self.now


def with_sessions(
    database: Database, clock: Clock, use: Callable[[PageSessions], Coroutine[Any, Any, None]]
) -> None:
    """Run a test with a server's sessions on a database."""

    async def run() -> None:
        writer = Writer(database, asyncio.get_running_loop())
        try:
            with database.reading.begin() as connection:
                stored = sessions.all_sessions(connection)
            await use(PageSessions(ValidTokens([TOKEN]), writer, stored, clock))
        finally:
            await writer.close()

    asyncio.run(run())


def test_a_session_ends_after_being_idle(database: Database) -> None:
    clock = Clock()

    async def use(kept: PageSessions) -> None:
        secret, session = await kept.begin(TOKEN)
        for _ in range(3):
            clock.now += (IDLE_SECONDS - 1) * SECOND
            assert kept.find(secret.encode()) == session  # this counts as use
        clock.now += (IDLE_SECONDS + 1) * SECOND
        assert kept.find(secret.encode()) is None

    with_sessions(database, clock, use)


def test_a_session_ends_after_its_lifetime(database: Database) -> None:
    clock = Clock()

    async def use(kept: PageSessions) -> None:
        secret, _ = await kept.begin(TOKEN)
        end = clock.now + LIFE_SECONDS * SECOND
        while clock.now + 3600 * SECOND < end:
            clock.now += 3600 * SECOND
            assert kept.find(secret.encode()) is not None
        clock.now = end + 1
        assert kept.find(secret.encode()) is None

    with_sessions(database, clock, use)


def test_uses_are_stored_and_ended_sessions_removed(store: Store) -> None:
    clock = Clock()

    async def use(kept: PageSessions) -> None:
        used, _ = await kept.begin(TOKEN)
        await kept.begin(TOKEN)  # idle
        clock.now += (IDLE_SECONDS + 1) * SECOND // 2
        assert kept.find(used.encode())
        clock.now += (IDLE_SECONDS + 1) * SECOND // 2
        began = clock.now
        task = asyncio.create_task(kept.run())
        await asyncio.to_thread(eventually, lambda: len(all_of(store)) == 1, "one to be forgotten")
        task.cancel()
        (left,) = all_of(store)
        assert left.sha256 == hashlib.sha256(used.encode()).digest()
        assert left.used_at == began - (IDLE_SECONDS + 1) * SECOND // 2

    with_sessions(store.database, clock, use)


def test_a_session_that_cannot_be_stored_does_not_exist(store: Store) -> None:
    async def use(kept: PageSessions) -> None:
        secret, session = await kept.begin(TOKEN)
        with store.database.migrating.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE sessions RENAME TO away")
        with pytest.raises(StoreUnavailableError, match="cannot store"):
            await kept.begin(TOKEN)
        # A session must not end in memory while the next server would find it in the database.
        with pytest.raises(StoreUnavailableError, match="cannot store"):
            await kept.end(session)
        assert kept.find(secret.encode()) == session
        with store.database.migrating.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO sessions")
        await kept.end(session)
        assert kept.find(secret.encode()) is None
        assert all_of(store) == []

    with_sessions(store.database, Clock(), use)
