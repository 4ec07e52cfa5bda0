"""``python -I -m scriptservice.server``: the keeper's child, which gets numbers of descriptors."""

import gc
import sys
from typing import TYPE_CHECKING, cast

from scriptservice.protocol.prctl import die_with_parent, hide_from_ptrace

if TYPE_CHECKING:
    from types import ModuleType

if __name__ == "__main__":
    # Call this before the process has read anything secret.
    hide_from_ptrace()
    numbers = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    # The keeper's socket also reports the keeper's death, but only once the event loop runs.
    # Without this call, a server that is still being loaded would hold the address that the next
    # keeper needs.
    die_with_parent(numbers["--keeper-fd"])
    # If rich is installed, structlog imports it to draw tracebacks. The server's log does not use
    # rich, and the import takes a twelfth of the server's start.
    sys.modules.setdefault("rich", cast("ModuleType", None))
    # Loaded modules stay in memory, so there is little garbage to collect while they are loaded.
    # The collector would take an eighth of the loading time.
    gc.disable()
    try:
        from scriptservice.server.server_process import main
    except Exception as error:
        if "--passive" in numbers:
            # The keeper continues with the old server, and reports this message.
            import socket

            from scriptservice.protocol.frames import encode

            message = f"the new server cannot be loaded: {type(error).__name__}: {error}"
            with socket.socket(fileno=numbers["--keeper-fd"]) as keeper:
                keeper.sendall(encode({"type": "fatal", "message": message}))
        raise
    gc.enable()
    sys.exit(
        main(
            keeper=numbers["--keeper-fd"],
            listener=numbers["--listen-fd"],
            config=numbers["--config-fd"],
            passive="--passive" in numbers,
        )
    )
