"""Starts a service for a measurement, as users start it, and sends requests to the service."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 120
IDLE_SECONDS = 2.0
"""The client reconnects after this idle time, because the server may be closing the connection."""
END_SECONDS = 600
OPEN = "/v1/commands?status=queued&status=running&status=stopping&limit=1"
FAILED = "/v1/commands?status=failed&status=lost&limit=1"
SAME_UID = ["--run-as", str(os.geteuid()), "--no-use-cgroups"]
"""Flags of ``serve`` with which a start costs the least: the service's own user and no cgroup."""


def eventually(
    condition: Callable[[], Any],
    what: str,
    seconds: float = END_SECONDS,
    poll_seconds: float = 0.01,
) -> Any:
    """Wait until a condition holds; return its value. Exit if it does not hold in time.

    Args:
        condition: called until it returns a true value.
        what: what is waited for, in words, for the error message.
        seconds: longest time to wait.
        poll_seconds: pause between two calls.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            sys.exit(f"cannot measure: waited {seconds} s for {what}")
        time.sleep(poll_seconds)
    return value


@contextmanager
def new_directory() -> Iterator[Path]:
    """Yield a new directory that other users can pass through, and remove it afterwards."""
    path = Path(tempfile.mkdtemp(prefix="scriptservice-bench-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


class MeasuredService:
    """A service on loopback (keeper and server); a ``with`` statement ends it.

    Args:
        directory: contains the service's data directory, which is made if it does not exist.
        flags: further flags of ``serve``.

    Attributes:
        port: the port on which the service listens.
        start_seconds: time from the start of ``serve`` to the first healthy answer.
        token: the admin token.
    """

    def __init__(self, directory: Path, flags: list[str]) -> None:
        self.data = directory / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        serve = [str(Path(sys.executable).with_name("scriptservice")), "serve"]
        serve += ["--port", str(self.port), "--data-dir", str(self.data), *flags]
        began = time.monotonic()
        self.process = subprocess.Popen(
            serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while not self._healthy():
            late = time.monotonic() - began > START_SECONDS
            if late or self.process.poll() is not None:
                self.close()
                sys.exit(f"cannot measure: {' '.join(serve)} does not start")
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - began
        self.token = (self.data / "token").read_text().strip()
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        self._asked_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def close(self) -> None:
        """End the service; scripts that still run are killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            time.sleep(0.01)
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    # Requests

    def request(self, method: str, path: str, body: object = None) -> bytes:
        """Return the bytes of an HTTP request, for a program that sends the request many times."""
        content = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Authorization: Bearer {self.token}\r\n"
        )
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
        return head.encode() + b"\r\n" + content

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """Send a request on the persistent connection; return the content of its answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode()
        if time.monotonic() - self._asked_at > IDLE_SECONDS:
            self._connection.close()  # the next request reconnects
        self._connection.request(method, path, content, headers)
        response = self._connection.getresponse()
        answer = response.read()
        self._asked_at = time.monotonic()
        if response.status not in (200, 201, 202):
            sys.exit(f"cannot measure: {method} {path}: {answer.decode()}")
        return answer

    def get(self, path: str) -> Any:
        """Send a GET request; return the parsed JSON of its answer."""
        return json.loads(self.ask("GET", path))

    def submit(self, script: str, *, wait: bool = False, **fields: object) -> Any:
        """Submit a script; return the command."""
        path = "/v1/commands?wait=60" if wait else "/v1/commands"
        return json.loads(self.ask("POST", path, {"script": script, **fields}))

    def wait_until_final(self, poll_seconds: float = 0.02) -> None:
        """Wait until every command is final; exit if one has failed or was lost."""
        eventually(
            lambda: not self.get(OPEN)["items"], "commands to end", poll_seconds=poll_seconds
        )
        if items := self.get(FAILED)["items"]:
            status, reason = items[0]["status"], items[0]["reason"]
            sys.exit(f"cannot measure: a command ended as {status}: {reason}")

    # Its processes

    def pids(self) -> dict[str, int]:
        """Return the process ids of keeper and server."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in map(int, children.read_text().split()):
            if b"scriptservice.server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return {"keeper": self.process.pid, "server": pid}
        sys.exit("cannot measure: there is no server process")

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU seconds that keeper and server have used, without their children."""
        seconds = {}
        for name, pid in self.pids().items():
            tasks = Path(f"/proc/{pid}/task").iterdir()
            spent = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
            seconds[name] = spent / 1e9
        return seconds

    def resident_bytes(self) -> dict[str, int]:
        """Return the resident memory of keeper and server in bytes, shared pages included."""
        page = os.sysconf("SC_PAGE_SIZE")
        return {
            name: int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
            for name, pid in self.pids().items()
        }
