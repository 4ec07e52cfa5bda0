"""The faults of a soak: their names, what they do to the service, and how often they happen.

A fault point is a place in the code of keeper or server at which a test can make a fault happen. To
arm a fault point is to request such a fault there.
"""

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy.exc import DBAPIError

from scriptservice.protocol.fault_points import KEEPER_POINTS, SERVER_POINTS, arm
from support.oracle import Trial
from support.service import Service, eventually

WAIT_SECONDS = 5.0
"""How long to wait until a process reaches an armed fault point."""


class FaultInjector:
    """Injects faults into one service, and repairs what does not recover by itself.

    Args:
        service: the running service.
        trial: the checks of the results; it must know when the keeper has died.
        points: the directory whose files arm fault points.
        rng: source of randomness.
    """

    def __init__(self, service: Service, trial: Trial, points: Path, rng: random.Random) -> None:
        self.service = service
        self._trial = trial
        self._points = points
        self._rng = rng

    def _server(self) -> psutil.Process | None:
        assert self.service.process is not None
        for child in psutil.Process(self.service.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if "scriptservice.server" in child.cmdline():
                    return child
        return None

    def kill_server(self) -> None:
        """Kill the server with SIGKILL at a random moment."""
        if server := self._server():
            with contextlib.suppress(psutil.Error):
                server.kill()

    def kill_server_at_a_point(self) -> None:
        """Kill the server with SIGKILL at a fault point, where it leaves something half done."""
        self._arm(self._rng.choice(sorted(SERVER_POINTS)), "kill")

    def freeze_server(self) -> None:
        """Stop the server with SIGSTOP, and continue it after a random time."""
        if server := self._server():
            with contextlib.suppress(psutil.Error):
                self._freeze(server, self._rng.uniform(0.2, 3.0))

    def freeze_keeper(self) -> None:
        """Stop the keeper with SIGSTOP, and continue it after a random time."""
        assert self.service.process is not None
        self._freeze(psutil.Process(self.service.process.pid), self._rng.uniform(0.1, 1.5))

    def _freeze(self, process: psutil.Process, seconds: float) -> None:
        process.suspend()
        time.sleep(seconds)
        process.resume()

    def upgrade(self) -> None:
        """Send SIGHUP to the keeper, which then upgrades the service."""
        assert self.service.process is not None
        os.kill(self.service.process.pid, signal.SIGHUP)

    def kill_keeper(self) -> None:
        """Kill the keeper with SIGKILL, then start the service again."""
        self._kill_and_restart(self.service.kill_keeper)

    def kill_both(self) -> None:
        """Kill the keeper and the server with SIGKILL, then start the service again."""
        server = self._server()

        def kill() -> None:
            assert self.service.process is not None
            self.service.process.kill()
            if server is not None:
                with contextlib.suppress(psutil.Error):
                    server.kill()
            self.service.process.wait()

        self._kill_and_restart(kill)

    def kill_keeper_at_a_point(self) -> None:
        """Kill the keeper with SIGKILL at a fault point, then start the service again."""
        point = self._rng.choice([p for p in sorted(KEEPER_POINTS) if "recovery" not in p])

        def kill() -> None:
            if not self._arm(point, "kill"):
                self.service.kill_keeper()
            assert self.service.process is not None
            self.service.process.wait(WAIT_SECONDS)

        self._kill_and_restart(kill)

    def _kill_and_restart(self, kill: Callable[[], None]) -> None:
        self._trial.keeper_died()
        server = self._server()
        kill()
        if server is not None:
            psutil.wait_procs([server], timeout=10)
        # The server may have accepted more commands before it noticed the keeper's death.
        self._trial.keeper_died()
        self.service.start()

    def fail_a_write(self) -> None:
        """Make one write to the journal fail, for lack of space or with an I/O error."""
        point = self._rng.choice(["journal.append", "journal.splice", "journal.headed"])
        self._arm(point, f"fail {self._rng.choice(['ENOSPC', 'EIO', 'EDQUOT'])}")

    def fail_a_spawn(self) -> None:
        """Make one spawn fail for lack of processes, memory or descriptors."""
        self._arm("spawn.process", f"fail {self._rng.choice(['EAGAIN', 'ENOMEM', 'EMFILE'])}")

    def _arm(self, point: str, action: str) -> bool:
        """Arm a fault point, and disarm it when a process has reached it or the time is over.

        Args:
            point: name of the fault point.
            action: what happens there.

        Returns:
            Whether a process reached the fault point within `WAIT_SECONDS`.
        """
        arm(str(self._points), point, action)
        path = self._points / point
        with contextlib.suppress(AssertionError):
            eventually(lambda: not path.exists(), point, WAIT_SECONDS)
        try:
            path.unlink()
        except FileNotFoundError:
            return True
        return False

    def lock_database(self) -> None:
        """Lock the database for a random time, so that the service cannot write."""
        seconds = self._rng.uniform(0.2, 4.0)
        lock = "BEGIN IMMEDIATE"
        if self.service.database is not None:
            lock = "LOCK TABLE commands, output IN ACCESS EXCLUSIVE MODE"
        # The server may hold a lock of its own now. Then this lock fails, and no fault is injected.
        with contextlib.suppress(DBAPIError), self.service.database_transaction() as connection:
            connection.exec_driver_sql(lock)
            time.sleep(seconds)

    def cut_clients(self) -> None:
        """Send half a request, or do not read the answer, and close the connection."""
        for text in (
            b"POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
            b"GET /v1/commands HTTP/1.1\r\nHost: loc",
            b"GET /v1/commands HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            with contextlib.suppress(OSError), socket.socket() as client:
                client.settimeout(1)
                client.connect(("127.0.0.1", self.service.port))
                client.sendall(text)


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: the fault's name in the table.
        act: injects the fault, and repairs what does not recover by itself.
        weight: how often the fault is injected, relative to the other faults.
    """

    name: str
    act: Callable[[FaultInjector], None]
    weight: int


FAULTS = [
    Fault("kill -9 of the server", FaultInjector.kill_server, 8),
    Fault("kill -9 of the server at a fault point", FaultInjector.kill_server_at_a_point, 6),
    Fault("the server frozen", FaultInjector.freeze_server, 3),
    Fault("the keeper frozen", FaultInjector.freeze_keeper, 3),
    Fault("upgrade (SIGHUP)", FaultInjector.upgrade, 4),
    Fault("kill -9 of the keeper", FaultInjector.kill_keeper, 1),
    Fault("kill -9 of the keeper at a fault point", FaultInjector.kill_keeper_at_a_point, 2),
    Fault("kill -9 of both at once", FaultInjector.kill_both, 1),
    Fault("no room for a write", FaultInjector.fail_a_write, 3),
    Fault("no process for a script", FaultInjector.fail_a_spawn, 3),
    Fault("the database locked", FaultInjector.lock_database, 2),
    Fault("clients that vanish", FaultInjector.cut_clients, 2),
]
