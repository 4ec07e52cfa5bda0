"""What is done to a service in a soak: each fault by its name, and how often it comes."""

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
"""How long an armed fault may wait for a process to come to its point."""


class Hurting:
    """Hurts one service, and heals it.

    Args:
        service: it runs.
        trial: told when its keeper dies.
        points: the directory in which fault points are armed.
        chance: where randomness comes from.
    """

    def __init__(self, service: Service, trial: Trial, points: Path, chance: random.Random) -> None:
        self.service = service
        self._trial = trial
        self._points = points
        self._chance = chance

    def _server(self) -> psutil.Process | None:
        assert self.service.process is not None
        for child in psutil.Process(self.service.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if "scriptservice.server" in child.cmdline():
                    return child
        return None

    def kill_server(self) -> None:
        """``kill -9`` of the server, in whatever state it is."""
        if server := self._server():
            with contextlib.suppress(psutil.Error):
                server.kill()

    def kill_server_at_a_point(self) -> None:
        """``kill -9`` of the server where a death leaves something half done."""
        self._arm(self._chance.choice(sorted(SERVER_POINTS)), "kill")

    def freeze_server(self) -> None:
        """SIGSTOP of the server for a while."""
        if server := self._server():
            with contextlib.suppress(psutil.Error):
                self._freeze(server, self._chance.uniform(0.2, 3.0))

    def freeze_keeper(self) -> None:
        """SIGSTOP of the keeper for a while."""
        assert self.service.process is not None
        self._freeze(psutil.Process(self.service.process.pid), self._chance.uniform(0.1, 1.5))

    def _freeze(self, process: psutil.Process, seconds: float) -> None:
        process.suspend()
        time.sleep(seconds)
        process.resume()

    def upgrade(self) -> None:
        """SIGHUP."""
        assert self.service.process is not None
        os.kill(self.service.process.pid, signal.SIGHUP)

    def kill_keeper(self) -> None:
        """``kill -9`` of the keeper, and a start."""
        self._keeper_dies(self.service.kill_keeper)

    def kill_both(self) -> None:
        """``kill -9`` of keeper and server at once, and a start."""
        server = self._server()

        def kill() -> None:
            assert self.service.process is not None
            self.service.process.kill()
            if server is not None:
                with contextlib.suppress(psutil.Error):
                    server.kill()
            self.service.process.wait()

        self._keeper_dies(kill)

    def kill_keeper_at_a_point(self) -> None:
        """``kill -9`` of the keeper where a death leaves something half done, and a start."""
        point = self._chance.choice([p for p in sorted(KEEPER_POINTS) if "recovery" not in p])

        def kill() -> None:
            if not self._arm(point, "kill"):
                self.service.kill_keeper()
            assert self.service.process is not None
            self.service.process.wait(WAIT_SECONDS)

        self._keeper_dies(kill)

    def _keeper_dies(self, kill: Callable[[], None]) -> None:
        self._trial.keeper_died()
        server = self._server()
        kill()
        if server is not None:
            psutil.wait_procs([server], timeout=10)
        # What was accepted by a server that did not know yet.
        self._trial.keeper_died()
        self.service.start()

    def fail_a_write(self) -> None:
        """A record or output does not fit on the disk for once."""
        point = self._chance.choice(["journal.append", "journal.splice", "journal.headed"])
        self._arm(point, f"fail {self._chance.choice(['ENOSPC', 'EIO', 'EDQUOT'])}")

    def fail_a_spawn(self) -> None:
        """There is no process, memory or descriptor for a script for once."""
        self._arm("spawn.process", f"fail {self._chance.choice(['EAGAIN', 'ENOMEM', 'EMFILE'])}")

    def _arm(self, point: str, action: str) -> bool:
        """Arm a point; return whether a process came to it, which disarms it in any case."""
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
        """Somebody else holds the database for a while."""
        seconds = self._chance.uniform(0.2, 4.0)
        lock = "BEGIN IMMEDIATE"
        if self.service.database is not None:
            lock = "LOCK TABLE commands, output IN ACCESS EXCLUSIVE MODE"
        # The server may hold it itself just then.
        with contextlib.suppress(DBAPIError), self.service.connected() as connection:
            connection.exec_driver_sql(lock)
            time.sleep(seconds)

    def cut_clients(self) -> None:
        """Clients send half a request, or do not read their answer."""
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
        name: for the table.
        act: does it, and heals it where it does not heal by itself.
        weight: how often it comes, beside the others.
    """

    name: str
    act: Callable[[Hurting], None]
    weight: int


FAULTS = [
    Fault("kill -9 of the server", Hurting.kill_server, 8),
    Fault("kill -9 of the server at a fault point", Hurting.kill_server_at_a_point, 6),
    Fault("the server frozen", Hurting.freeze_server, 3),
    Fault("the keeper frozen", Hurting.freeze_keeper, 3),
    Fault("upgrade (SIGHUP)", Hurting.upgrade, 4),
    Fault("kill -9 of the keeper", Hurting.kill_keeper, 1),
    Fault("kill -9 of the keeper at a fault point", Hurting.kill_keeper_at_a_point, 2),
    Fault("kill -9 of both at once", Hurting.kill_both, 1),
    Fault("no room for a write", Hurting.fail_a_write, 3),
    Fault("no process for a script", Hurting.fail_a_spawn, 3),
    Fault("the database locked", Hurting.lock_database, 2),
    Fault("clients that vanish", Hurting.cut_clients, 2),
]
