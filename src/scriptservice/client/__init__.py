"""The client: programs and the command line speak with a service through this.

::

    from scriptservice import Client

    with Client() as client:
        result = client.run("make all")
        print(result.command.exit_code, result.stdout.decode())

``flows`` holds what is done, without input or output; ``sync`` and ``aio`` carry it out over
httpx2, blocking or not; ``retry`` says how long each try and all of them may take; ``follow`` puts
streams together again after a break; ``types`` and ``problems`` are what comes back. Nothing of
server, store or keeper is imported.
"""

from scriptservice.client.async_client import AsyncClient
from scriptservice.client.client import Client
from scriptservice.client.follow import Chunk
from scriptservice.client.types import Command, Host, Result

__all__ = ["AsyncClient", "Chunk", "Client", "Command", "Host", "Result"]
