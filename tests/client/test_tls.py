"""A service behind TLS with a private authority, and behind an HTTP proxy, plain or with TLS."""

import asyncio
import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scriptservice import AsyncClient, Client, ClientError, ConnectionLostError
from support.cli import cli, environment
from support.service import PATIENCE_SECONDS, Service
from support.tls import Authority, Front, front


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(service: Service, authority: Authority) -> Iterator[Front]:
    """The service behind TLS."""
    with front(service.port, authority.context) as made:
        yield made


@pytest.fixture(params=["http", "https"])
def proxy(request: pytest.FixtureRequest, authority: Authority) -> Iterator[tuple[str, Front]]:
    """The URL of an HTTP proxy, and the proxy."""
    context = authority.context if request.param == "https" else None
    with front(None, context) as made:
        yield f"{request.param}://127.0.0.1:{made.port}", made


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_private_authority(
    service: Service, secured: Front, authority: Authority, host: str
) -> None:
    url = f"https://{host}:{secured.port}"
    with Client(url, service.token, ca_file=authority.file) as client:
        assert client.run("echo safe").stdout == b"safe\n"

    async def use() -> bytes:
        async with AsyncClient(url, service.token, ca_file=str(authority.file)) as client:
            return (await client.run("echo safe")).stdout

    assert asyncio.run(use()) == b"safe\n"


def test_an_authority_that_is_not_trusted(service: Service, secured: Front) -> None:
    with (
        Client(f"https://127.0.0.1:{secured.port}", service.token, retry_seconds=0) as client,
        pytest.raises(ConnectionLostError, match="certificate"),
    ):
        client.hosts()


def test_another_authority(service: Service, secured: Front, tmp_path: Path) -> None:
    url, other = f"https://127.0.0.1:{secured.port}", Authority(tmp_path)
    with (
        Client(url, service.token, ca_file=other.file, retry_seconds=0) as client,
        pytest.raises(ConnectionLostError, match="certificate"),
    ):
        client.hosts()


def test_the_command_line_takes_both_from_the_environment(
    service: Service, secured: Front, authority: Authority, proxy: tuple[str, Front]
) -> None:
    url, made = proxy
    known = environment(
        service,
        SCRIPTSERVICE_URL=f"https://127.0.0.1:{secured.port}",
        SCRIPTSERVICE_CA_FILE=str(authority.file),
        SCRIPTSERVICE_PROXY=url,
    )
    ended = cli(service, "run", "echo out; exit 3", env=known)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, b"out\n", b"")
    assert made.requests[0].startswith(f"CONNECT 127.0.0.1:{secured.port} ")
    ended = cli(service, "list", env={**known, "SCRIPTSERVICE_CA_FILE": "/no/such.pem"})
    assert ended.returncode == 1
    assert ended.stderr == (
        b"scriptservice: cannot use CA file /no/such.pem: No such file or directory\n"
    )


def test_a_tunnel_through_a_proxy(
    service: Service, secured: Front, authority: Authority, proxy: tuple[str, Front]
) -> None:
    url, made = proxy
    where = f"https://127.0.0.1:{secured.port}"
    with_password = url.replace("://", "://me:secret@")
    with Client(where, service.token, ca_file=authority.file, proxy=with_password) as client:
        command = client.submit("seq 1000; exit 3")
        assert b"".join(each.data for each in client.follow(command.id)).endswith(b"\n1000\n")
        assert client.wait(command.id).exit_code == 3

    async def use() -> int | None:
        async with AsyncClient(
            where, service.token, ca_file=authority.file, proxy=with_password
        ) as client:
            return (await client.run("exit 4")).exit_code

    assert asyncio.run(use()) == 4
    assert {each.partition(" ")[0] for each in made.requests} == {"CONNECT"}
    expected = f"basic {base64.b64encode(b'me:secret').decode()}".lower()
    assert made.credentials == {expected}


def test_plain_http_through_a_proxy(
    service: Service, authority: Authority, proxy: tuple[str, Front]
) -> None:
    url, made = proxy
    with Client(service.url, service.token, ca_file=authority.file, proxy=url) as client:
        assert client.run("echo through").stdout == b"through\n"
    assert made.requests[0].startswith(f"POST {service.url}/v1/commands")


def test_no_proxy_is_taken_from_elsewhere(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with Client(service.url, service.token) as client:
        assert client.hosts()


def test_a_tunnel_that_falls_silent_is_given_up_in_time(
    service: Service, secured: Front, authority: Authority
) -> None:
    seconds = 8
    with front(None, None) as made:
        made.silent = True
        with Client(
            f"https://127.0.0.1:{secured.port}",
            service.token,
            ca_file=authority.file,
            proxy=f"http://127.0.0.1:{made.port}",
            retry_seconds=seconds,
        ) as client:
            began = time.monotonic()
            with pytest.raises(ConnectionLostError):
                list(client.follow("0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"))
            assert seconds <= time.monotonic() - began < PATIENCE_SECONDS


@pytest.mark.parametrize("text", ["", "no certificate", None])
def test_a_ca_file_that_cannot_be_used(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "authority.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ClientError, match=f"cannot use CA file {file}: "):
        Client("https://127.0.0.1:1", "token", ca_file=file)
    with pytest.raises(ClientError, match="cannot use CA file"):
        AsyncClient("https://127.0.0.1:1", "token", ca_file=file)


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "socks5://x:1", "http://", "http://:1"])
def test_a_proxy_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ClientError, match="cannot use the proxy"):
        Client("http://127.0.0.1:1", "token", proxy=url)
    with pytest.raises(ClientError, match="cannot use the proxy") as refused:
        AsyncClient("http://127.0.0.1:1", "token", proxy=url.replace("://", "://me:secret@"))
    assert "secret" not in str(refused.value)
