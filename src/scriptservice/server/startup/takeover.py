"""How one server replaces another: the successor prepares, the serving one retires.

Only ``server_process`` calls this. The keeper holds the listening socket, so connections that no
server accepts meanwhile wait in its backlog.
"""

import asyncio

import uvicorn

from scriptservice.server.commands.notifier import Notifier
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.store.database.connect import connect_database_read_only
from scriptservice.store.database.engine import Database
from scriptservice.store.database.schema import check_schema

CONNECTION_CLOSE_SECONDS = 1.0
"""A retiring server sends ``Connection: close`` with every answer for this long, then exits."""

FOLLOWER_SECONDS = 3.0
"""How long after the start of retirement followers are cut off; the next server serves them."""


async def prepare(config: ServerConfig, web: uvicorn.Config) -> Database:
    """Load everything that serving needs and check the database's schema; change nothing.

    Args:
        config: this server's configuration.
        web: uvicorn's configuration, which imports its modules late.

    Returns:
        The read-only connection to the database. Close it once this server has opened its own.

    Raises:
        ConfigurationError: this release cannot use the database as it is.
        StoreUnavailableError: the database does not answer now.
    """
    web.load()
    database = connect_database_read_only(config.database)
    await asyncio.to_thread(check_schema, database, migrate=config.migrate)
    return database


async def retire(web: uvicorn.Server, notifier: Notifier, serving: "asyncio.Task[None]") -> None:
    """Stop serving, and let requests end in order where they can.

    Args:
        web: the uvicorn server.
        notifier: wakes the followers.
        serving: the task that serves.
    """
    for listener in web.servers:
        listener.close()
    # Answers read default_headers; once a second uvicorn rebuilds it from encoded_headers.
    close = (b"connection", b"close")
    web.config.encoded_headers = [*web.config.encoded_headers, close]
    web.server_state.default_headers = [*web.server_state.default_headers, close]
    await asyncio.sleep(CONNECTION_CLOSE_SECONDS)
    web.should_exit = True
    # Clients that wait for an end get the command as it is then; followers reconnect.
    delay = FOLLOWER_SECONDS - CONNECTION_CLOSE_SECONDS
    asyncio.get_running_loop().call_later(delay, notifier.close)
    await serving
