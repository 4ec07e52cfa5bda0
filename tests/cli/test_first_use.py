"""What a new user meets: tokens that are missing or wrong, dead addresses, logging in."""

import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Terminal, cli, environment
from support.service import Service


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has no token yet."""
    return {
        "SCRIPTSERVICE_TOKEN": "",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "SCRIPTSERVICE_DATA_DIR": str(tmp_path / "data"),
    }


@pytest.fixture
def dead_url() -> Iterator[str]:
    """An address that refuses connections: its port is bound, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def kept_token(service: Service, home: dict[str, str]) -> Path:
    name = service.url.replace(":", "%3A").replace("/", "%2F")
    return Path(home["XDG_CONFIG_HOME"]) / "scriptservice" / "tokens" / name


def test_a_missing_token_names_where_it_was_looked_for(
    service: Service, home: dict[str, str]
) -> None:
    ended = cli(service, "list", env=environment(service, **home))
    assert ended.returncode == 1
    assert ended.stderr.decode() == (
        f"scriptservice: cannot use {service.url}: no token found; looked in "
        f"SCRIPTSERVICE_TOKEN (not set), {kept_token(service, home)} (not found), "
        f"{home['SCRIPTSERVICE_DATA_DIR']}/token (not found); "
        f"log in with: scriptservice login {service.url}\n"
    )


def test_a_wrong_token_names_where_it_came_from(service: Service, home: dict[str, str]) -> None:
    wrong = {**home, "SCRIPTSERVICE_TOKEN": "wrong"}
    ended = cli(service, "run", "true", env=environment(service, **wrong))
    assert (ended.returncode, ended.stdout) == (125, b"")
    assert ended.stderr.decode() == (
        f"scriptservice: cannot use {service.url}: the service does not accept the token in "
        "SCRIPTSERVICE_TOKEN; correct it, or unset it and log in with: "
        f"scriptservice login {service.url}\n"
    )


def test_a_dead_address_is_said_at_once(service: Service, dead_url: str) -> None:
    url = dead_url
    process = subprocess.Popen(
        [sys.executable, "-m", "scriptservice.cli", "list", "--url", url],
        env=environment(service),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"scriptservice: trying {url}, 10 s\n"
        assert process.poll() is None  # it goes on trying
        process.kill()
    ended = cli(service, "run", "--retry-seconds", "1", "true", "--url", url)
    trying, failed = ended.stderr.decode().splitlines()
    assert trying == f"scriptservice: trying {url}, 1 s"
    assert failed == (
        f"scriptservice: cannot reach {url}: Connection refused; "
        "is the service running, and is this its address?"
    )
    assert ended.returncode == 125


def test_a_token_is_kept_for_its_service(service: Service, home: dict[str, str]) -> None:
    terminal = Terminal(service, "login", service.url, **home)
    terminal.read_until(lambda seen: b"(not shown): " in seen)
    terminal.type(service.token.encode() + b"\n")
    code, seen = terminal.end()
    assert code == 0
    assert service.token.encode() not in seen
    path = kept_token(service, home)
    assert str(path).encode() in re.sub(rb"\s", b"", seen)
    assert path.read_text() == f"{service.token}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    known = environment(service, **home)
    assert cli(service, "hosts", env=known).returncode == 0
    wrong = {**known, "SCRIPTSERVICE_TOKEN": "the environment wins"}
    assert cli(service, "hosts", env=wrong).returncode == 1
    other = cli(service, "hosts", "--url", service.url.replace("127.0.0.1", "localhost"), env=known)
    assert b"no token found" in other.stderr


def test_a_wrong_token_is_not_kept(service: Service, home: dict[str, str]) -> None:
    ended = cli(
        service, "login", env=environment(service, **home), stdin=None, input=b"wrong-token\n"
    )
    assert ended.returncode == 1
    assert ended.stderr.decode() == (
        f"scriptservice: cannot log in to {service.url}: the service does not accept this token\n"
    )
    assert not kept_token(service, home).exists()
    nothing = cli(service, "login", env=environment(service, **home))
    assert (nothing.returncode, nothing.stdout) == (2, b"")


def test_a_kept_token_is_replaced(service: Service, home: dict[str, str]) -> None:
    path = kept_token(service, home)
    path.parent.mkdir(parents=True)
    path.write_text("old\n")
    refused = cli(service, "hosts", env=environment(service, **home))
    assert f"the service does not accept the token in {path}; log in" in refused.stderr.decode()
    token = service.token.encode()
    done = cli(service, "login", env=environment(service, **home), stdin=None, input=token)
    assert done.returncode == 0, done.stderr
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_text() == f"{service.token}\n"
