"""How one server replaces another: the successor prepares, then the present server retires.

Only ``server_process`` calls this module. The keeper holds the listening socket, so new connections
wait in the socket's backlog while neither server accepts connections.
"""

import asyncio

import uvicorn

from scriptservice.server.commands.notifier import Notifier
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.store.database.connect import connect_database_read_only
from scriptservice.store.database.engine import Database
from scriptservice.store.database.schema import check_schema

CONNECTION_CLOSE_SECONDS = 1.0
"""A retiring server sends ``Connection: close`` with every answer for this long, then stops."""

FOLLOWER_SECONDS = 3.0
"""A retiring server disconnects its followers, the clients that follow a command, after this time.
The followers then reconnect to the next server."""


async def prepare(config: ServerConfig, web: uvicorn.Config) -> Database:
    """Load everything that serving needs, and check the database's schema. Change nothing.

    Args:
        config: this server's configuration.
        web: uvicorn's configuration. Its ``load`` imports uvicorn's modules.

    Returns:
        A read-only connection to the database. Close it once `Server` has opened its own
        connections.

    Raises:
        ConfigurationError: this release cannot use the database's schema.
        StoreUnavailableError: the database does not answer now.
    """
    web.load()
    database = connect_database_read_only(config.database)
    await asyncio.to_thread(check_schema, database, migrate=config.migrate)
    return database


async def retire(web: uvicorn.Server, notifier: Notifier, serving: "asyncio.Task[None]") -> None:
    """Accept no more connections, answer the open requests, then stop serving.

    Args:
        web: the uvicorn server.
        notifier: ends the requests that follow commands.
        serving: the task in which the uvicorn server runs.
    """
    for listener in web.servers:
        listener.close()
    # Uvicorn adds the headers in default_headers to each answer. Once a second, it makes that list
    # from encoded_headers again, so change both lists.
    close = (b"connection", b"close")
    web.config.encoded_headers = [*web.config.encoded_headers, close]
    web.server_state.default_headers = [*web.server_state.default_headers, close]
    await asyncio.sleep(CONNECTION_CLOSE_SECONDS)
    web.should_exit = True
    # When the notifier closes, clients that wait for a command's end get an answer with the present
    # state of the command. Followers are disconnected, and reconnect to the next server.
    delay = FOLLOWER_SECONDS - CONNECTION_CLOSE_SECONDS
    asyncio.get_running_loop().call_later(delay, notifier.close)
    await serving
