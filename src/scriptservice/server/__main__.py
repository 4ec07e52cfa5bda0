"""``python -I -m scriptservice.server``: the keeper's child. Its arguments are descriptors."""

import gc
import sys
from typing import TYPE_CHECKING, cast

from scriptservice.protocol.prctl import die_with_parent, hide_from_ptrace

if TYPE_CHECKING:
    from types import ModuleType

if __name__ == "__main__":
    # Before anything secret is in this process.
    hide_from_ptrace()
    numbers = dict(zip(sys.argv[1::2], map(int, sys.argv[2::2]), strict=True))
    # The keeper's socket tells of its death too, but only once the event loop runs. While the
    # server is being loaded, it would hold the address that the next keeper needs.
    die_with_parent(numbers["--keeper-fd"])
    # structlog imports rich, where it is installed, to draw tracebacks. The log does not use that,
    # and the import takes a twelfth of the server's start.
    sys.modules.setdefault("rich", cast("ModuleType", None))
    # Loaded modules stay: collecting garbage meanwhile takes an eighth of the time to load them.
    gc.disable()
    try:
        from scriptservice.server.server_process import main
    except Exception as error:
        if "--passive" in numbers:
            # The keeper continues with the old server and reports why.
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
