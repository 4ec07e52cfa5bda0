"""Attaching with both clients: full-screen programs, broken connections, and refusals."""

import asyncio
import hashlib
import inspect
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from scriptservice import AsyncAttachment, AsyncClient, Attachment, Client, Status
from scriptservice.client import problems
from support.gates import Gate
from support.screen import Screen
from support.service import PATIENCE_SECONDS, Service, eventually

ROWS, COLS = 24, 80


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, service.token, retry_seconds=PATIENCE_SECONDS) as client:
        yield client


def on_terminal(client: Client, script: str) -> str:
    """Submit a script on a terminal; return the id of the command."""
    env = {"TERM": "xterm", "LANG": "C.UTF-8", "LESSHISTFILE": "-", "TOPRC": "/nonexistent"}
    return client.submit(script, pty={"rows": ROWS, "cols": COLS}, env=env).id


# Full-screen programs


@pytest.mark.needs_screens
def test_vim_is_driven_and_all_see_the_same_bytes(client: Client) -> None:
    script = "file=$(mktemp); vim -u NONE -i NONE -n -X $file; cat $file; rm $file"
    command = on_terminal(client, script)
    with client.attach(command, after=0) as first, client.attach(command, after=0) as second:
        one, two = Screen(first, ROWS, COLS), Screen(second, ROWS, COLS)
        one.wait_for(lambda lines: lines.count("~") > 10, "an empty file in vim")
        first.send(b"ihello from one\x1b")
        two.wait_for(lambda lines: lines[0] == "hello from one", "what the first client typed")
        second.send(b"oand from two\x1b")
        one.wait_for(lambda lines: lines[1] == "and from two", "what the second client typed")
        one.resize(ROWS + 6, COLS)
        one.wait_for(lambda lines: lines.count("~") > ROWS, "a larger screen")
        first.send(b":wq\r")
        outputs = [one.end(), two.end()]
        assert first.command is not None
        assert (first.command.status, first.command.exit_code) == (Status.SUCCEEDED, 0)
    followed = b"".join(chunk.data for chunk in client.follow(command))
    assert {hashlib.sha256(each).hexdigest() for each in outputs} == {
        hashlib.sha256(followed).hexdigest()
    }
    assert followed.endswith(b"hello from one\r\nand from two\r\n")


@pytest.mark.needs_screens
def test_less_is_driven(client: Client) -> None:
    command = on_terminal(client, "file=$(mktemp); seq 1000 >$file; less -X $file; rm $file")
    with client.attach(command, after=0) as attachment:
        screen = Screen(attachment, ROWS, COLS)
        screen.wait_for(lambda lines: lines[:2] == ["1", "2"], "the first page")
        attachment.send(b"G")
        screen.wait_for(lambda lines: "1000" in lines, "the last page")
        attachment.send(b"?^500$\r")
        screen.wait_for(lambda lines: lines[0] == "500", "what was searched for")
        attachment.send(b"q")
        screen.end()


@pytest.mark.needs_screens
def test_top_is_driven(client: Client) -> None:
    command = on_terminal(client, "exec top -d 0.2")
    with client.attach(command, after=0) as attachment:
        screen = Screen(attachment, ROWS, COLS)
        screen.wait_for(lambda lines: any("PID USER" in line for line in lines), "a table")
        attachment.send(b"h")
        screen.wait_for(lambda lines: any("Help for" in line for line in lines), "help")
        attachment.send(b"\x1b")
        screen.wait_for(lambda lines: any("PID USER" in line for line in lines), "the table again")
        attachment.send(b"q")
        screen.end()
        assert attachment.command is not None
        assert attachment.command.exit_code == 0


# Both clients


def test_both_attachments_have_the_same_verbs() -> None:
    blocking = {name for name in vars(Attachment) if not name.startswith("_")}
    awaited = {name for name in vars(AsyncAttachment) if not name.startswith("_")}
    documented = AsyncAttachment.__doc__ or ""
    attributes = blocking - awaited
    assert awaited < blocking
    assert all(f"        {name}: " in documented for name in attributes), attributes
    for name in awaited:
        theirs = inspect.signature(getattr(AsyncAttachment, name))
        assert inspect.signature(getattr(Attachment, name)) == theirs, name


def test_the_blocking_client(client: Client) -> None:
    command = client.submit(
        "trap 'echo usr1' USR1; read -r a; echo $a; read -r b", interactive=True
    )
    with client.attach(command.id, after=0) as attachment:
        attachment.send(b"one\n")
        assert next(attachment) == b"one\n"
        assert attachment.position == 4
        attachment.resize(10, 10)  # has no effect without a terminal
        attachment.signal("usr1")
        attachment.signal("nothing")
        assert next(attachment) == b"usr1\n"
        attachment.send(b"end\n")
        assert list(attachment) == []
        assert isinstance(attachment.problem, problems.ValidationProblemError)
        assert attachment.command is not None
        assert attachment.command.finished
    with pytest.raises(problems.ClientError, match="it is closed"):
        attachment.send(b"x")
    assert list(attachment) == []


def test_the_asynchronous_client(service: Service) -> None:
    async def converse() -> tuple[bytes, int | None]:
        async with AsyncClient(
            service.url, service.token, retry_seconds=PATIENCE_SECONDS
        ) as client:
            command = await client.submit("read -r a; echo $a; exit 3", interactive=True)
            async with client.attach(command.id, after=0) as attachment:
                await attachment.send(b"one\n")
                output = b"".join([data async for data in attachment])
                assert attachment.command is not None
                return output, attachment.command.exit_code

    assert asyncio.run(converse()) == (b"one\n", 3)


def test_refusals_are_errors(client: Client, service: Service) -> None:
    ended = client.run("true", interactive=True).command.id
    with pytest.raises(problems.AlreadyFinishedError), client.attach(ended):
        pass
    with (
        pytest.raises(problems.NotFoundError),
        client.attach("0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"),
    ):
        pass
    gate = Gate(service)
    deaf = client.submit(gate.block).id
    with pytest.raises(problems.NotInteractiveError), client.attach(deaf):
        pass
    gate.open()
    with (
        Client(service.url, "wrong", retry_seconds=0) as stranger,
        pytest.raises(problems.UnauthenticatedError),
        stranger.attach(deaf),
    ):
        pass


def test_without_its_package_it_says_what_to_install(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wsproto.connection", None)
    command = "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55"
    with (
        pytest.raises(problems.ClientError, match=r"pip install 'scriptservice\[attach\]'"),
        client.attach(command),
    ):
        pass


def test_closing_ends_the_iteration_in_another_thread(client: Client) -> None:
    command = client.submit("exec cat", interactive=True, grace_seconds=0).id
    with client.attach(command) as attachment:
        closing = threading.Timer(0.1, attachment.close)
        closing.start()
        assert list(attachment) == []
        assert attachment.command is None
        closing.join()
    assert client.get(command).status is Status.RUNNING
    client.stop(command)


# Input


def test_input_by_requests(client: Client) -> None:
    command = client.submit("cat; echo end", interactive=True).id
    eventually(lambda: client.get(command).status is Status.RUNNING, "it to run")
    assert client.send_input(command, b"ab", offset=0).offset == 2
    with pytest.raises(problems.OffsetMismatchError) as caught:
        client.send_input(command, b"ab", offset=0)
    assert caught.value.members["offset"] == 2
    receipt = client.send_input(command, b"cd\n", offset=2, close=True)
    assert (receipt.accepted_bytes, receipt.offset) == (3, 5)
    client.wait(command)
    assert client.output(command) == b"abcd\nend\n"
    with pytest.raises(problems.NotRunningError):
        client.send_input(command, b"late")
    with pytest.raises(problems.NotRunningError):
        client.signal(command, "HUP")


def test_a_signal(client: Client) -> None:
    script = "trap 'echo hup; exit 4' HUP; echo ready; while :; do read -rt 1 _; done"
    command = client.submit(script, interactive=True).id
    eventually(lambda: client.output(command), "the trap to be set")
    assert client.signal(command, "HUP").id == command
    assert client.wait(command).exit_code == 4
    assert client.output(command) == b"ready\nhup\n"


# Broken connections


def test_kills_of_the_server_lose_and_repeat_no_output(own_service: Service) -> None:
    service = own_service
    script = "seq 1 5000; while read -r line; do seq 1 5000; echo got $line; done; seq 1 5000"
    with Client(service.url, service.token, retry_seconds=PATIENCE_SECONDS) as client:
        command = client.submit(script, interactive=True).id
        with client.attach(command, after=0) as attachment:

            def send_once_connected() -> None:
                eventually(lambda: attachment.reconnects == 1, "the next connection")
                attachment.send(b"1\n")

            output = b""
            while b"\n5000\n" not in output:
                output += next(attachment)
            service.close_client()
            service.kill_server()
            threading.Thread(target=send_once_connected).start()
            while b"got 1\n" not in output:
                output += next(attachment)
            # It finishes while no server runs: the rest comes without a WebSocket.
            service.kill_server()
            client.send_input(command, b"", offset=2, close=True)
            output += b"".join(attachment)
            assert attachment.command is not None
            assert attachment.command.status is Status.SUCCEEDED
    numbers = b"".join(b"%d\n" % number for number in range(1, 5001))
    assert output == numbers + numbers + b"got 1\n" + numbers


@pytest.mark.long
def test_an_upgrade_breaks_it_gently(own_service: Service) -> None:
    service = own_service
    with Client(service.url, service.token, retry_seconds=PATIENCE_SECONDS) as client:
        command = client.submit("exec cat", interactive=True, grace_seconds=0).id
        with client.attach(command) as attachment:
            assert service.process is not None
            before = service.server_pid
            service.process.send_signal(signal.SIGHUP)
            # Until the end of the old server, the connection works.
            attachment.send(b"during\n")
            assert next(attachment) == b"during\n"
            reading = threading.Thread(target=lambda: received.append(next(attachment)))
            received: list[bytes] = []
            reading.start()
            eventually(lambda: attachment.reconnects == 1, "the next server")
            assert service.server_pid != before
            attachment.send(b"after\n")
            reading.join(PATIENCE_SECONDS)
            assert received == [b"after\n"]
        client.stop(command)
