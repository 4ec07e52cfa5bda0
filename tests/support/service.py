"""A real service for tests, which start it, use it over HTTP, kill it and restart it."""

import contextlib
import functools
import getpass
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest
from sqlalchemy import Connection, text

from scriptservice.store.database.connect import connect_database, open_database
from scriptservice.store.database.sqlite import sqlite_url
from support.needs import require

DATABASE_NAME = "scriptservice.db"
"""The name of the SQLite file in a data directory."""
PATIENCE_SECONDS = 180.0
"""How long a test waits for something that must happen. It decides only when a test fails."""
ON_SQLITE = pytest.mark.parametrize("database_kind", ["sqlite"], scope="module")
"""For tests that apply to SQLite only."""
MAINLY_SQLITE = ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
MAINLY_ON_SQLITE = pytest.mark.parametrize("database_kind", MAINLY_SQLITE, scope="module")
"""For tests that hardly depend on the database: they run on PostgreSQL only with ``-m long``."""
ON_BOTH = pytest.mark.parametrize("database_kind", ["sqlite", "postgresql"], scope="module")
"""For fault tests that depend on the database."""
FINAL = {"succeeded", "failed", "stopped", "timed_out", "lost"}


def eventually(
    condition: Callable[[], Any], what: str | Callable[[], str], seconds: float = PATIENCE_SECONDS
) -> Any:
    """Wait until a condition holds; return its value.

    The pauses between two looks become longer, since each look takes CPU time of the service.

    Args:
        condition: called until its value is true.
        what: what is waited for, in words; or a function that describes the state at the end.
        seconds: how long at most.

    Raises:
        AssertionError: the condition did not hold in time.
    """
    began = time.monotonic()
    deadline = began + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            missing = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {seconds} s for {missing}")
        time.sleep(min(0.1, 0.005 + (time.monotonic() - began) / 20))


def new_directory() -> Path:
    """Return a new directory that other users can pass through."""
    path = Path(tempfile.mkdtemp(prefix="scriptservice-test-"))
    path.chmod(0o755)
    return path


def migrated_data_dir() -> Path:
    """Return a new data directory whose SQLite database has the newest schema and no rows.

    A service that starts on it does not migrate, which would be about a tenth of the processor time
    of its start.
    """
    data_dir = new_directory() / "data"
    data_dir.mkdir(mode=0o700)
    (data_dir / DATABASE_NAME).write_bytes(_migrated_database())
    (data_dir / DATABASE_NAME).chmod(0o600)
    return data_dir


@functools.cache
def _migrated_database() -> bytes:
    with tempfile.TemporaryDirectory(prefix="scriptservice-test-") as directory:
        path = Path(directory) / DATABASE_NAME
        open_database(sqlite_url(str(path))).close()
        return path.read_bytes()


class Service:
    """One service: a keeper and its server, on a data directory of its own.

    Args:
        data_dir: the data directory. By default a new one; if the service runs on SQLite as this
            user, the directory has a migrated, empty database.
        flags: more flags of ``serve``.
        user: numeric uid to run it as, if the tests run as root.
        environment: more environment variables.
        database: URL of the database; None for a SQLite file in the data directory.
        stderr: descriptor for its log; by default the log goes to the same file as its stdout.
        under: a command, with its arguments, that runs the service (``setpriv …``).
        python: the interpreter of the installation to run.
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *flags: str,
        user: int | None = None,
        environment: dict[str, str] | None = None,
        database: str | None = None,
        stderr: int | None = None,
        under: Sequence[str] = (),
        python: str = sys.executable,
    ) -> None:
        if data_dir is None:
            is_migrated = database is None and user is None and not under
            data_dir = migrated_data_dir() if is_migrated else new_directory() / "data"
        self.data_dir = data_dir
        if user is not None or not _runs_as_us(flags):
            require("root")
        if "unshare" in under:
            require("mounts")
        self.flags = flags
        self.user = user
        self.environment = environment or {}
        self.database = database
        self.stderr = stderr
        self.under = under
        self.python = python
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.log = tempfile.NamedTemporaryFile(prefix="scriptservice-log-")  # noqa: SIM115
        self._client: httpx.Client | None = None

    # Starting and ending

    def start(self, *, wait: bool = True) -> "Service":
        """Start it on a free port, or on its former port after a restart."""
        if self.port == 0:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        if self.user is not None:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            os.chown(self.data_dir, self.user, self.user)
        command = [
            *self.under,
            self.python, "-m", "scriptservice.cli", "serve",
            "--port", str(self.port), "--data-dir", str(self.data_dir), *self.flags,
        ]  # fmt: skip
        if self.database is not None:
            command += ["--database", self.database]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log if self.stderr is None else self.stderr,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            env={**os.environ, **self.environment},
            start_new_session=True,
        )
        if wait:
            self.wait_until_serving()
        return self

    def wait_until_healthy(self) -> None:
        """Wait until it is healthy; it may not have its database and its token yet."""
        eventually(lambda: self._answers("/healthz", 200), "the service to answer")

    def wait_until_serving(self) -> None:
        """Wait until it has its database; it is healthy earlier than that."""
        eventually(lambda: self._answers("/v1/session", 401), "the service to serve")

    def ready(self) -> dict[str, Any]:
        """Wait until it is ready; return what ``/readyz`` says."""
        response = eventually(
            lambda: (answer := self.client.get("/readyz")).status_code == 200 and answer,
            "the service to be ready",
        )
        return dict(response.json())

    def _answers(self, path: str, status: int) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            code = self.process.returncode
            raise AssertionError(f"the service ended with {code}: {self.output()}")
        with contextlib.suppress(httpx.HTTPError):
            # Without TLS, since loading all certificates takes more time than the answer.
            return httpx.get(f"{self.url}{path}", timeout=20, verify=False).status_code == status
        return False

    @property
    def is_alive(self) -> bool:
        """Whether it was started, and its keeper has not ended since."""
        return self.process is not None and self.process.poll() is None

    def stop_all_commands(self) -> None:
        """Stop every command that has not ended, and wait until all have ended."""
        self.close_client()  # a test may have broken its connections
        path = "/v1/commands?status=queued&status=running&status=stopping&limit=1000"
        left = [item["id"] for item in self.client.get(path).json()["items"]]
        for command in left:
            self.client.post(f"/v1/commands/{command}/stop", json={"grace_seconds": 0})
        for command in left:
            self.wait(command)

    def stop(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Shut it down in order; return its exit code."""
        assert self.process is not None
        self.close_client()
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        """End it and its scripts; remove its directory."""
        self.close_client()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill_keeper()
        self.log.close()
        shutil.rmtree(self.data_dir.parent, ignore_errors=True)

    def kill_keeper(self) -> None:
        """``kill -9`` of the keeper; its server ends by itself."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        server = []
        for child in children:
            with contextlib.suppress(psutil.Error):
                if "scriptservice.server" in child.cmdline():
                    server.append(child)
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(server, timeout=PATIENCE_SECONDS)

    def kill_both(self) -> None:
        """``kill -9`` of the keeper and its server at once."""
        server = psutil.Process(self.server_pid)
        assert self.process is not None
        self.process.kill()
        with contextlib.suppress(psutil.NoSuchProcess):  # it may have ended by itself already
            server.kill()
        self.process.wait()
        psutil.wait_procs([server], timeout=PATIENCE_SECONDS)
        self.close_client()

    @property
    def server_pid(self) -> int:
        """The server's process id, whether it answers or not."""

        def find() -> int:
            assert self.process is not None
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.Error):
                    if "scriptservice.server" in child.cmdline():
                        return child.pid
            return 0

        return int(eventually(find, "a server process"))

    def kill_server(self) -> int:
        """``kill -9`` of the server; return its process id."""
        pid = self.server_pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return pid

    def output(self) -> str:
        """Return what it printed to stdout and stderr."""
        return Path(self.log.name).read_text(errors="replace")

    def sql(self, statement: str, **values: Any) -> list[Any]:
        """Run a statement in its database directly; return the rows, if there are any."""
        with self.database_transaction() as connection:
            result = connection.execute(text(statement), values)
            return list(result) if result.returns_rows else []

    @contextlib.contextmanager
    def database_transaction(self) -> Iterator[Connection]:
        """Yield a connection to its database, in a transaction."""
        path = self.data_dir / "scriptservice.db"
        engine = connect_database(self.database or sqlite_url(str(path))).migrating
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    # HTTP

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token(self) -> str:
        path = self.data_dir / "token"
        if not path.exists():
            # It is healthy before it has its database, and then makes the token.
            eventually(lambda: path.exists() or not self.is_alive, "the token")
        return path.read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def client(self) -> httpx.Client:
        """A client with the admin token."""
        if self._client is None:
            self._client = httpx.Client(
                base_url=self.url, headers=self.headers, timeout=PATIENCE_SECONDS, verify=False
            )
        return self._client

    def close_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def submit(self, script: str, **fields: Any) -> dict[str, Any]:
        """Submit a script; return the command."""
        response = self.client.post("/v1/commands", json={"script": script, **fields})
        assert response.status_code == 201, response.text
        return dict(response.json())

    def get(self, command: str) -> dict[str, Any]:
        """Return a command; repeat the request while the server does not answer (a restart)."""

        return self._get(command, {})

    def _get(self, command: str, query: dict[str, Any]) -> dict[str, Any]:
        def ask() -> Any:
            try:
                response = self.client.get(f"/v1/commands/{command}", params=query)
            except httpx.TransportError:
                return None
            assert response.status_code == 200, response.text
            return response.json()

        return dict(eventually(ask, "an answer"))

    def wait(self, command: str, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """Wait until a command is final; return it."""

        seen: dict[str, Any] = {}

        def finished() -> Any:
            # With `wait` the service answers as soon as it ends; polling would take more CPU time.
            seen.update(self._get(command, {"wait": 10}))
            return seen if seen["status"] in FINAL else None

        return dict(eventually(finished, lambda: f"the end of {seen}", seconds))

    def wait_for(
        self, command: str, status: str, seconds: float = PATIENCE_SECONDS
    ) -> dict[str, Any]:
        """Wait until a command has a status; return it."""

        def there() -> Any:
            found = self.get(command)
            assert found["status"] == status or found["status"] not in FINAL, found
            return found if found["status"] == status else None

        return dict(eventually(there, f"command {command} to be {status}", seconds))

    def run(self, script: str, seconds: float = PATIENCE_SECONDS, **fields: Any) -> dict[str, Any]:
        """Submit a script and wait until it is final."""
        return self.wait(self.submit(script, **fields)["id"], seconds)

    def bytes_of(self, command: str, **query: Any) -> bytes:
        """Return a command's output."""
        response = self.client.get(f"/v1/commands/{command}/output", params=query)
        assert response.status_code in (200, 206), response.text
        return response.content

    def wait_for_output(
        self, command: str, wanted: bytes, seconds: float = PATIENCE_SECONDS
    ) -> bytes:
        """Wait until a command's output contains ``wanted``; return the output."""

        def there() -> bytes:
            found = self.bytes_of(command)
            return found if wanted in found else b""

        return bytes(eventually(there, f"{wanted!r} in the output", seconds))


def _runs_as_us(flags: Sequence[str]) -> bool:
    """Return whether scripts run as the user of the tests or as the default user."""
    if "--script-uid" in flags:
        return False  # without root the flag does nothing, and the script would run as us
    users = [after for flag, after in itertools.pairwise(flags) if flag == "--run-as"]
    return users in ([], [str(os.geteuid())], [getpass.getuser()])


@contextlib.contextmanager
def running_service(*flags: str, **options: Any) -> Iterator[Service]:
    """Run a service while the ``with`` block runs."""
    service = Service(options.pop("data_dir", None), *flags, **options)
    try:
        yield service.start()
    finally:
        service.close()


def processes_with(text: str) -> list[psutil.Process]:
    """Return the processes whose command line or environment contains a text, without zombies."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            if any(text in word for word in process.cmdline()) or any(
                text in value for value in process.environ().values()
            ):
                found.append(process)
    return found
