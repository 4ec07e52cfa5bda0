"""ScriptService: runs bash scripts sent over HTTP and keeps every byte they print.

The way of a command through the folders: ``server`` takes it, ``store`` makes it durable,
``fleet`` dispatches it, ``keeper`` runs it and writes what happened to its journal, ``fleet``
records that journal into the ``store``, and ``server`` shows it to those who follow.
"""

from typing import TYPE_CHECKING, Any

from scriptservice.version import __version__

if TYPE_CHECKING:
    from scriptservice.client import AsyncClient, Chunk, Client, Command, Host, Result

__all__ = ["AsyncClient", "Chunk", "Client", "Command", "Host", "Result", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the client when it is first asked for: the keeper and ``version`` do without."""
    if name in __all__:
        from scriptservice import client

        return getattr(client, name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
