"""Gates at which scripts under test wait until the test opens them."""

import itertools

from support.service import Service

_numbers = itertools.count()


class Gate:
    """A gate: a script that runs `wait` goes on once the test has called `open`.

    A script so never goes on before the test has seen what it wants to see, however slow the
    machine is. The gate is a file beside the service's data directory: every user can look for it,
    and it outlives the service's processes.

    Args:
        service: whose script waits.

    Attributes:
        wait: shell text without an end of its own, as in ``f"{gate.wait}; echo more"``.
    """

    def __init__(self, service: Service) -> None:
        self._path = service.data_dir.parent / f"gate-{next(_numbers)}"
        self.wait = f"until [ -e {self._path} ]; do sleep 0.02; done"

    def open(self) -> None:
        """Let every script go on that waits here, or comes here later."""
        self._path.touch()
