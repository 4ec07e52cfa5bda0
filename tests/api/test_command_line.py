"""``scriptservice serve`` and ``version``: settings, and one clear line for each error."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from scriptservice import __version__
from support.gates import Gate
from support.service import (
    MAINLY_ON_SQLITE,
    ON_SQLITE,
    PATIENCE_SECONDS,
    Service,
    new_directory,
    running_service,
)

MakeService = Callable[..., Service]


def run(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scriptservice.cli", *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def _is_about_the_machine(line: str) -> bool:
    return line.split()[1:2] in (["info"], ["warning"])


def refusal(*flags: str, environment: dict[str, str] | None = None) -> str:
    """Return the one line in which ``serve`` says why it cannot start."""
    port = () if "--port" in flags else ("--port", "0")
    ended = run("serve", *port, *flags, environment=environment)
    assert ended.returncode not in (0, None)
    assert ended.stdout == ""
    # Other lines are about the machine: no root, no launcher, no cgroups.
    lines = [line for line in ended.stderr.splitlines() if not _is_about_the_machine(line)]
    assert len(lines) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return lines[0]


@pytest.fixture
def stopped(make_service: MakeService) -> tuple[Service, str]:
    """A service that was shut down, and the id of its finished command."""
    service = make_service().start()
    command = service.run("echo kept")
    assert service.stop() == 0
    return service, command["id"]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that the user of scripts can pass through."""
    path = new_directory()
    yield path
    shutil.rmtree(path)


def assert_kept(service: Service, command: str) -> None:
    service.start()
    assert service.get(command)["status"] == "succeeded"
    assert service.bytes_of(command) == b"kept\n"


# Errors


def test_a_port_that_is_taken(directory: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        line = refusal("--port", str(port), "--data-dir", str(directory / "data"))
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in line


def test_a_data_directory_that_cannot_be_made(directory: Path) -> None:
    (directory / "file").write_text("in the way")
    for path in (directory / "file", directory / "file" / "data"):
        line = refusal("--data-dir", str(path))
        assert f"cannot use data directory {path}: " in line
    assert (directory / "file").read_text() == "in the way"


@pytest.mark.parametrize("name", ["work", "private", "journal"])
def test_a_file_where_a_directory_has_to_be(directory: Path, name: str) -> None:
    (directory / name).write_text("in the way")
    line = refusal("--data-dir", str(directory))
    assert str(directory / name) in line
    assert (directory / name).read_text() == "in the way"


@MAINLY_ON_SQLITE
def test_a_data_directory_that_another_instance_uses(service: Service) -> None:
    gate = Gate(service)
    command = service.submit(f"{gate.wait}; echo kept")
    service.wait_for(command["id"], "running")
    line = refusal("--data-dir", str(service.data_dir))
    assert str(service.data_dir) in line
    gate.open()
    assert service.wait(command["id"])["status"] == "succeeded"
    assert service.bytes_of(command["id"]) == b"kept\n"


@ON_SQLITE
def test_a_database_that_cannot_be_used_is_left_as_it_is(stopped: tuple[Service, str]) -> None:
    """Neither a newer schema nor a broken file is changed; the next start shows no new token."""
    service, command = stopped
    token = service.token
    path = service.data_dir / "scriptservice.db"

    def set_version(version: str) -> None:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE alembic_version SET version_num = ?", (version,))

    with closing(sqlite3.connect(path)) as database:
        (current,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    set_version("9999")
    line = refusal("--data-dir", str(service.data_dir))
    assert f"cannot open database {path}: its schema 9999 is newer" in line
    set_version(current)
    content = path.read_bytes()
    path.write_bytes(b"no database" * 1000)
    line = refusal("--data-dir", str(service.data_dir))
    assert f"cannot open database {path}: " in line
    path.write_bytes(content)
    assert_kept(service, command)
    assert service.token == token
    assert service.output().count(token) == 1


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--run-as", "no-such-user"], "cannot run scripts as no-such-user: there is no such user"),
        (["--database", "mysql://x/y"], "cannot use a mysql database"),
        (["--database", "sqlite:////no/such/x.db"], "cannot open database /no/such/x.db"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0"),
        (["--host", "no such host"], "cannot listen on no such host:0"),
        (["--port", "65536"], "cannot use setting port"),
        (["--colour", "red"], "No such option: --colour"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_bad_setting_is_reported_in_one_line(
    directory: Path, flags: list[str], line: str
) -> None:
    assert line in refusal("--data-dir", str(directory / "data"), *flags)


# Settings


def test_version() -> None:
    for word in ("version", "--version"):
        ended = run(word)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{__version__}\n", "")


@pytest.fixture(scope="module")
def configured() -> Iterator[Service]:
    """A service with settings from flags, the environment and a file."""
    directory = new_directory()
    file = directory / "settings.toml"
    file.write_text(
        'host_name = "of-the-file"\nmax_running = 3\nport = 1\nmin_free_bytes = 1\n'
        "no_new_privileges = false\nuse_cgroups = false\n"
    )
    with running_service(
        "--config",
        str(file),
        "--run-as",
        str(os.geteuid()),
        database=f"sqlite:///{directory}/elsewhere.db",
        environment={
            "SCRIPTSERVICE_HOST_NAME": "of-the-environment",
            "SCRIPTSERVICE_PORT": "2",
            "SCRIPTSERVICE_DATA_DIR": "/no/such",
        },
    ) as service:
        yield service
    shutil.rmtree(directory)


def test_settings_come_from_flags_environment_and_file_in_that_order(configured: Service) -> None:
    service = configured
    (host,) = service.client.get("/v1/hosts").json()["items"]
    assert (host["name"], host["capacity"]) == ("of-the-environment", 3)
    assert service.ready()["tree_kill"] == "walk"
    command = service.run("grep NoNewPrivs /proc/$$/status")
    assert service.bytes_of(command["id"]) == b"NoNewPrivs:\t0\n"


def test_new_privileges_are_refused_by_default(service: Service) -> None:
    command = service.run("grep NoNewPrivs /proc/$$/status")
    assert service.bytes_of(command["id"]) == b"NoNewPrivs:\t1\n"


def test_the_database_can_be_elsewhere(configured: Service) -> None:
    assert configured.run("true")["status"] == "succeeded"
    assert Path(make_url(configured.database or "").database or "").exists()
    assert not (configured.data_dir / "scriptservice.db").exists()


def test_it_prints_where_it_listens_on_a_free_port(directory: Path) -> None:
    flags = ["--port", "0", "--data-dir", str(directory / "data")]
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "serve", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            port = int(re.fullmatch(r".* http://127\.0\.0\.1:(\d+)\n", first).group(1))
            assert (directory / "data" / "token").read_text().strip() in process.stdout.readline()
            with closing(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)):
                pass
        finally:
            process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0


@MAINLY_ON_SQLITE
def test_scripts_run_as_the_user_of_run_as(make_service: MakeService) -> None:
    user = "daemon" if os.geteuid() == 0 else str(os.geteuid())
    service = make_service("--run-as", user).start()
    command = service.run("id -un || id -u")
    assert user in service.bytes_of(command["id"]).decode() or os.geteuid() != 0


def test_root_runs_scripts_as_root_only_if_configured(configured: Service) -> None:
    command = configured.run("id -u")
    assert configured.bytes_of(command["id"]).strip() == str(os.geteuid()).encode()
