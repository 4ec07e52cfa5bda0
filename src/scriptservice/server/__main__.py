"""The program of the server's process: ``python -I -m scriptservice.server``.

The keeper starts the process. The arguments are the numbers of the descriptors that the process
inherits.
"""

import gc
import sys
from typing import TYPE_CHECKING, cast

from scriptservice.protocol.prctl import die_with_parent, hide_from_ptrace

if TYPE_CHECKING:
    from types import ModuleType

if __name__ == "__main__":
    # Hide the process before it reads anything secret.
    hide_from_ptrace()
    numbers = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    # This process has to end when the keeper dies. The socket to the keeper reports that death too,
    # but only when the event loop runs. Without this call, a server that is still being loaded
    # would live on and occupy the address that the next keeper needs.
    die_with_parent(numbers["--keeper-fd"])
    # If rich is installed, structlog imports rich to draw tracebacks. The server's log does not use
    # rich, and the import takes a twelfth of the server's start. This entry makes the import fail.
    sys.modules.setdefault("rich", cast("ModuleType", None))
    # Modules stay in memory, so loading them makes little garbage. The garbage collector would take
    # an eighth of the loading time.
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
