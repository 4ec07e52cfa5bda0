"""How one server takes another's place: the successor prepares, the one that serves retires.

Called by ``process`` alone. Meanwhile the listening socket is the keeper's: connections that nobody
accepts wait in its backlog.
"""

import asyncio

import uvicorn

from scriptservice.server.commands.notifier import Notifier
from scriptservice.server.startup.server_config import ServerConfig
from scriptservice.store.database.connect import connect_database_for_looking
from scriptservice.store.database.engine import Database
from scriptservice.store.database.schema import check_schema

LAST_ANSWERS_SECONDS = 1.0
"""For so long every answer asks its client to connect again."""

FOLLOWERS_SECONDS = 3.0
"""After so long whoever still follows is sent away; it goes on with the next server."""


async def prepare(config: ServerConfig, web: uvicorn.Config) -> Database:
    """Load everything that serving needs, and see that the database can be served; change nothing.

    Args:
        config: what this server is told.
        web: uvicorn's, which imports late.

    Returns:
        The database as it was looked at; to be closed once this server has opened its own.

    Raises:
        ConfigurationError: this release cannot use the database as it is.
        StoreUnavailableError: it does not answer now.
    """
    web.load()
    database = connect_database_for_looking(config.database)
    await asyncio.to_thread(check_schema, database, migrate=config.migrate)
    return database


async def retire(web: uvicorn.Server, feed: Notifier, serving: "asyncio.Task[None]") -> None:
    """Stop serving without breaking what can be ended in order.

    Args:
        web: serves.
        feed: of those who follow.
        serving: ends when it serves no more.
    """
    for listener in web.servers:
        listener.close()
    # Both: one is for the answers from now on, the other becomes it once a second.
    close = (b"connection", b"close")
    web.config.encoded_headers = [*web.config.encoded_headers, close]
    web.server_state.default_headers = [*web.server_state.default_headers, close]
    await asyncio.sleep(LAST_ANSWERS_SECONDS)
    web.should_exit = True
    # Who waits for an end is answered with what is true then, who follows comes back.
    asyncio.get_running_loop().call_later(FOLLOWERS_SECONDS - LAST_ANSWERS_SECONDS, feed.close)
    await serving
