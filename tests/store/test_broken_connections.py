"""A database that goes away: a job is stored exactly once, or its caller gets an error."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from sqlalchemy import Connection, create_engine, make_url
from sqlalchemy.exc import DBAPIError

from scriptservice.errors import StoreUnavailableError
from scriptservice.store.database.connect import open_database
from scriptservice.store.database.engine import READERS, Database, probe_write
from scriptservice.store.queries import commands as command_store
from scriptservice.store.queries import dispatching
from scriptservice.store.queries import hosts as host_store
from scriptservice.store.queries.journal_changes import OtherDatabaseError
from scriptservice.store.reader import Reader
from scriptservice.store.reconnect_check import ReconnectCheck
from scriptservice.store.writer import Writer
from support.postgres import Databases
from support.proxy import Proxy, proxy
from support.service import PATIENCE_SECONDS, eventually
from support.store import Store

HOST = host_store.StoredHost("alpha", "identity", "journal", 5, "place", "1.0", 9)


@pytest.fixture
def database_proxy(postgres: Databases) -> Iterator[Proxy]:
    """A proxy in front of the server, which a test can cut."""
    with proxy(make_url(postgres.url("postgres")).port or 0) as made:
        yield made


@pytest.fixture
def database(postgres: Databases, database_proxy: Proxy) -> Iterator[Database]:
    """A database behind the proxy."""
    url = postgres.migrated()
    opened = open_database(
        make_url(url).set(port=database_proxy.port).render_as_string(hide_password=False)
    )
    yield opened
    opened.close()
    postgres.drop(url)


@pytest.fixture
def store(database: Database) -> Store:
    return Store(database)


def run(database: Database, test: Callable[[Writer], Awaitable[None]]) -> None:
    async def with_writer() -> None:
        writer = Writer(database, asyncio.get_running_loop())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await test(writer)
        finally:
            await writer.close()

    asyncio.run(with_writer())


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("times", [1, 3])
def test_a_commit_whose_answer_is_lost_is_stored_once(
    store: Store, database: Database, database_proxy: Proxy, forward: bool, times: int
) -> None:
    insert = command_store.Inserter(1)
    items = [store.new(labels={"a": "b"}) for _ in range(5)]

    async def test(writer: Writer) -> None:
        await writer.submit(probe_write, None)  # this connects the writer
        database_proxy.lose_commits(times, forward=forward)
        stored = await asyncio.gather(*(writer.submit(insert, item) for item in items))
        assert [command.id for command in stored] == [item.id for item in items]
        assert all(command == store.find(command.id) for command in stored)

    run(database, test)
    assert database_proxy.commits_lost == times
    assert store.count("commands") == store.count("inputs") == store.count("labels") == 5


def test_callers_do_not_notice_a_connection_that_broke_while_idle(
    store: Store, database: Database, database_proxy: Proxy
) -> None:
    async def test(writer: Writer) -> None:
        insert = command_store.Inserter(1)
        reader = Reader(database)
        await writer.submit(insert, store.new())
        assert await reader.run(command_store.next_number) == 2
        await asyncio.gather(*(reader.run(host_store.all_hosts) for _ in range(8)))
        database_proxy.cut_connections()
        await writer.submit(insert, store.new())
        found = await asyncio.gather(*(reader.run(command_store.next_number) for _ in range(8)))
        assert len(set(found)) == 1
        reader.close()

    run(database, test)
    assert store.count("commands") == 2


def test_a_failed_job_is_reported_at_once_and_not_stored_later(
    store: Store, database: Database, database_proxy: Proxy
) -> None:
    insert = command_store.Inserter(1)

    async def test(writer: Writer) -> None:
        database_proxy.cut()
        jobs = [writer.submit(insert, store.new()) for _ in range(50)]
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert {type(result) for result in results} == {StoreUnavailableError}
        assert writer.unavailable_reason is not None
        database_proxy.restore()
        # Nobody submits a job, so the writer must find out by itself.
        await asyncio.to_thread(
            eventually, lambda: writer.unavailable_reason is None, "it to be back"
        )
        await writer.submit(insert, store.new())

    run(database, test)
    assert store.count("commands") == 1


def test_a_commit_in_doubt_is_repeated_when_the_database_is_back(
    store: Store, database: Database, database_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptservice.store.writer.TIMEOUT_SECONDS", 0.5)
    insert = command_store.Inserter(1)
    doubtful, behind = store.new(), store.new()

    async def test(writer: Writer) -> None:
        await writer.submit(insert, store.new())
        database_proxy.lose_commits(1, forward=True, then_cut=True)
        future = writer.submit(insert, doubtful)
        await asyncio.to_thread(
            eventually, lambda: database_proxy.commits_lost, "the commit to be lost"
        )
        with pytest.raises(StoreUnavailableError, match="cannot say whether it was stored"):
            await writer.wait_with_timeout(future)
        assert not future.done()
        # The next job has not begun, and never will.
        waiting = writer.submit(insert, behind)
        with pytest.raises(StoreUnavailableError, match="nothing was stored"):
            await writer.wait_with_timeout(waiting)
        assert waiting.done()
        database_proxy.restore()
        assert (await future) == store.find(doubtful.id)

    run(database, test)
    assert store.count("commands") == 2


def test_a_commit_in_doubt_is_repeated_while_the_database_refuses_it(
    store: Store, database: Database, postgres: Databases, database_proxy: Proxy
) -> None:
    """If a committed mark stayed unknown, its command would wait for ever."""
    command = store.add()
    beside_the_proxy = create_engine(
        database.migrating.url.set(port=make_url(postgres.url("postgres")).port)
    )
    mark = dispatching.DispatchMark(command.number, "alpha", "keeper")
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE disk_full; END $$; "
        "CREATE TRIGGER refuse BEFORE UPDATE ON commands EXECUTE FUNCTION refuse()"
    )

    async def test(writer: Writer) -> None:
        await writer.submit(probe_write, None)
        database_proxy.lose_commits(1, forward=True, then_cut=True)
        future = writer.submit(dispatching.mark_dispatched, mark)
        await asyncio.to_thread(
            eventually, lambda: database_proxy.commits_lost, "the commit to be lost"
        )
        # The writer repeats its commit as soon as the proxy lets it.
        with beside_the_proxy.begin() as connection:
            connection.exec_driver_sql(refuse)
        database_proxy.restore()
        await asyncio.to_thread(
            eventually, lambda: "disk" in (writer.unavailable_reason or ""), "it to be refused"
        )
        assert not future.done()
        with database.migrating.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER refuse ON commands")
        assert await future is True

    run(database, test)
    beside_the_proxy.dispose()
    assert store.row(command)["dispatched_to"] == "keeper"


def test_a_repeated_commit_is_on_the_standby_too(
    store: Store, database: Database, postgres: Databases, database_proxy: Proxy
) -> None:
    """With synchronous replication a commit waits for its standby, and a repetition must too."""
    insert = command_store.Inserter(1)
    items = []
    name = make_url(str(database.migrating.url)).database
    of_waiting = (
        "SELECT coalesce(max(pid), 0) FROM pg_stat_activity "
        f"WHERE datname = '{name}' AND wait_event = 'SyncRep'"
    )

    async def test(writer: Writer) -> None:
        await writer.submit(probe_write, None)
        postgres.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        postgres.execute("SELECT pg_reload_conf()")
        try:
            waiting = 0
            # The server reads the setting at some later time, so the first commit may pass.
            while not waiting:
                items.append(store.new())
                future = writer.submit(insert, items[-1])
                await asyncio.to_thread(
                    eventually,
                    lambda future=future: future.done() or postgres.value(of_waiting),
                    "a commit to be done, or to wait",
                )
                waiting = postgres.value(of_waiting)
            assert not future.done()
            postgres.execute(f"SELECT pg_terminate_backend({waiting})")
            await asyncio.to_thread(
                eventually,
                lambda: postgres.value(of_waiting) not in (0, waiting),
                "the second try to wait",
            )
            assert not future.done()
        finally:
            postgres.execute("ALTER SYSTEM RESET synchronous_standby_names")
            postgres.execute("SELECT pg_reload_conf()")
        assert (await future).id == items[-1].id

    store.write(host_store.save_host, HOST)
    run(database, test)
    assert store.count("commands") == len(items)


def test_a_failed_job_keeps_the_writers_lock(
    store: Store, database: Database, database_proxy: Proxy
) -> None:
    def wrong(connection: Connection, items: list[None]) -> list[None]:
        connection.exec_driver_sql("SELECT no_such_column FROM hosts")
        return items

    async def test(writer: Writer) -> None:
        await writer.submit(probe_write, None)
        before = database_proxy.connections
        with pytest.raises(StoreUnavailableError):
            await writer.submit(wrong, None)
        await writer.submit(probe_write, None)
        assert database_proxy.connections == before

    run(database, test)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE hosts SET journal_position = 4", "has the journal up to 4, and had it up to 5"),
        ("UPDATE hosts SET identity = 'other'", "does not know this host"),
        ("DELETE FROM hosts", "does not know this host"),
        ("UPDATE commands SET number = 7", "another server has written"),
    ],
)
def test_a_connection_to_another_database_is_refused_before_any_job(
    store: Store, database: Database, change: str, message: str
) -> None:
    store.write(host_store.save_host, HOST)
    store.add()
    same = ReconnectCheck("journal", "identity", lambda: 5, lambda: 2)
    with database.migrating.begin() as connection:
        same(connection)
        connection.exec_driver_sql("ALTER TABLE inputs DROP CONSTRAINT inputs_number_fkey")
        connection.exec_driver_sql(change)
    done: list[None] = []

    def job(connection: Connection, items: list[None]) -> list[None]:
        done.extend(items)
        return items

    async def test() -> None:
        loop = asyncio.get_running_loop()
        writer = Writer(database, loop, on_connected=same)
        with pytest.raises(OtherDatabaseError, match=message):
            await writer.submit(job, None)
        await writer.close()

    asyncio.run(test())
    assert done == []


def test_a_commit_in_doubt_does_not_delay_the_end(
    store: Store, database: Database, database_proxy: Proxy
) -> None:
    async def test(writer: Writer) -> None:
        await writer.submit(probe_write, None)
        database_proxy.lose_commits(1, forward=False, then_cut=True)
        future = writer.submit(command_store.Inserter(1), store.new())
        await asyncio.to_thread(
            eventually, lambda: database_proxy.commits_lost, "the commit to be lost"
        )
        await writer.close()
        with pytest.raises(StoreUnavailableError, match="cannot say whether it was stored"):
            await future

    run(database, test)


def test_a_read_fails_when_the_database_does_not_answer(
    store: Store, database: Database, database_proxy: Proxy
) -> None:
    def slow(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7)")

    async def test() -> None:
        reader = Reader(database)
        patience = reader._timeout_seconds
        with database.migrating.begin() as other:
            other.exec_driver_sql("SELECT pg_advisory_xact_lock(7)")
            reader._timeout_seconds = 0.3
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                await reader.run(slow)
        reader._timeout_seconds = patience
        assert await reader.run(host_store.all_hosts) == []
        database_proxy.cut()
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            await reader.run(host_store.all_hosts)
        database_proxy.restore()
        assert await reader.run(host_store.all_hosts) == []
        reader.close()

    asyncio.run(test())


def test_slow_reads_do_not_block_the_readers_for_ever(
    postgres: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scriptservice.store.database.postgresql.READ_TIMEOUT_SECONDS", 1.0)
    url = postgres.migrated()
    database = open_database(url)

    def slow(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_sleep(3600)")

    async def test() -> None:
        reader = Reader(database)
        slow_ones = [reader.run(slow) for _ in range(READERS)]
        errors = await asyncio.gather(*slow_ones, return_exceptions=True)
        assert [type(error) for error in errors] == [StoreUnavailableError] * READERS
        # All threads of the reader were busy; none is any more.
        assert await reader.run(host_store.all_hosts) == []
        # The error is the same if the statement's time-out comes before the reader's.
        reader._timeout_seconds = PATIENCE_SECONDS
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            await reader.run(slow)
        reader.close()

    asyncio.run(test())
    database.close()
    postgres.drop(url)


@pytest.mark.parametrize("statement", ["SELECT 1/0", "SELECT nothing", "SELECT E'\\x00'"])
def test_a_wrong_statement_is_not_an_unavailable_database(
    database: Database, statement: str
) -> None:
    def ask(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    async def test() -> None:
        reader = Reader(database)
        with pytest.raises(DBAPIError):
            await reader.run(ask)
        assert await reader.run(host_store.all_hosts) == []
        reader.close()

    asyncio.run(test())
