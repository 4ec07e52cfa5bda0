"""Notifications to the service manager, from a real keeper over a real datagram socket."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scriptservice.protocol.frames import PROTOCOL_VERSION, encode
from scriptservice.protocol.journal_format import Kind
from support.rig import Rig
from support.service import PATIENCE_SECONDS, Service, eventually, new_directory


class Listener:
    """The socket of a service manager.

    Args:
        address: a path, or an abstract name after ``@``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.socket.settimeout(PATIENCE_SECONDS)

    def receive(self) -> dict[str, str]:
        """Return the lines of the next datagram, by name."""
        lines = self.socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def receive_with(self, name: str, value: str | None = None) -> dict[str, str]:
        """Skip datagrams until one has this line; return its lines."""
        while True:
            lines = self.receive()
            if name in lines and value in (None, lines[name]):
                return lines

    def receive_none_with(self, name: str, seconds: float) -> None:
        """Receive for a time, and check that no datagram has this line."""
        self.socket.settimeout(seconds)
        with suppress(TimeoutError):
            while True:
                assert name not in self.receive()
        self.socket.settimeout(PATIENCE_SECONDS)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    directory = new_directory()
    made = Listener(str(directory / "notify"))
    yield made
    made.close()
    Path(made.address).unlink(missing_ok=True)
    directory.rmdir()


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**settings: Any) -> Rig:
        made.append(Rig(**settings))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


def test_ready_is_sent_when_the_server_serves(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address)
    assert listener.receive() == {"STATUS": "starting the server, 0 running"}
    listener.receive_none_with("READY", 0.3)
    rig.send({"type": "ready"})
    assert listener.receive() == {"READY": "1", "STATUS": "serving, 0 running"}


def test_a_server_that_waits_for_its_database_is_ready_and_says_why(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "waiting", "reason": "the database\nREADY=0 is away"})
    lines = listener.receive_with("READY")
    assert lines == {"READY": "1", "STATUS": "the database READY=0 is away, 0 running"}
    rig.send({"type": "ready"})
    assert listener.receive_with("STATUS")["STATUS"] == "serving, 0 running"


def test_the_status_is_counted_and_not_sent_for_every_script(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.receive_with("READY")
    started = time.monotonic()
    for _ in range(20):
        rig.wait_for(rig.spawn("echo done"), Kind.CLOSED)
    # Two, since a count of one may have been sent while a script ran.
    for _ in range(2):
        rig.wait_for(rig.spawn("sleep 3600"), Kind.STARTED)
    received = []
    while not received or received[-1] != "serving, 2 running":
        received.append(listener.receive()["STATUS"])
    listener.receive_none_with("STATUS", 1.5)
    seconds = time.monotonic() - started
    assert len(received) <= seconds + 2, received


def test_the_watchdog_is_fed_at_half_its_time_whatever_the_server_does(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address, watchdog_seconds=2)
    received_at: list[float] = []
    # The server never reports that it is ready. If the machine delays the keeper or this test,
    # some come late and the next ones soon after.
    while len(received_at) < 40 and not is_even(received_at[-4:]):
        assert listener.receive_with("WATCHDOG")["WATCHDOG"] == "1"
        received_at.append(time.monotonic())
    assert is_even(received_at[-4:]), received_at
    # Only the keeper's loop is judged, so a stopped keeper sends nothing.
    rig.process.send_signal(signal.SIGSTOP)
    eventually(lambda: state_of(rig.process.pid) == "T", "the keeper to be stopped")
    drain(listener)
    listener.receive_none_with("WATCHDOG", 1.5)
    rig.process.send_signal(signal.SIGCONT)
    listener.receive_with("WATCHDOG")


def is_even(received_at: list[float]) -> bool:
    """Return whether a watchdog of 2 s was fed four times, each in time and not too often."""
    gaps = [later - earlier for earlier, later in pairwise(received_at)]
    return len(gaps) == 3 and max(gaps) < 2 and sum(gaps) > 2


def test_no_watchdog_is_fed_if_none_is_configured(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    make_rig(notify_socket=listener.address)
    listener.receive()
    listener.receive_none_with("WATCHDOG", 0.5)


def test_stopping_asks_for_the_time_that_the_grace_needs(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address, shutdown_grace_seconds=200)
    rig.send({"type": "ready"})
    listener.receive_with("READY")
    rig.process.send_signal(signal.SIGTERM)
    lines = listener.receive_with("STOPPING")
    assert lines["STATUS"] == "stopping, 0 running"
    assert int(lines["EXTEND_TIMEOUT_USEC"]) > 200_000_000


def test_a_server_that_comes_back_while_stopping_is_not_ready(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address, shutdown_grace_seconds=200)
    command = rig.spawn("trap '' TERM; echo x; while :; do sleep 0.05; done", grace_seconds=200)
    rig.wait_for(command, Kind.OUTPUT)
    rig.process.send_signal(signal.SIGTERM)
    listener.receive_with("STOPPING")
    rig.send({"type": "ready"})
    listener.receive_none_with("READY", 0.5)
    rig.process.send_signal(signal.SIGTERM)


def test_sighup_is_a_reload_that_ends(listener: Listener, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.receive_with("READY")
    rig.process.send_signal(signal.SIGHUP)
    lines = listener.receive_with("RELOADING")
    assert "READY" not in lines
    assert int(lines["MONOTONIC_USEC"]) > 0
    listener.receive_none_with("READY", 0.3)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"})
    assert listener.receive_with("READY")["STATUS"] == "serving, 0 running"
    assert " upgraded " in rig.log()


def test_a_reload_that_fails_ends_too(listener: Listener, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.receive_with("READY")
    rig.process.send_signal(signal.SIGHUP)
    successor = rig.accept_successor()
    listener.receive_with("RELOADING")
    successor.sendall(encode({"type": "fatal", "message": "cannot work"}))
    listener.receive_with("READY")
    successor.close()
    assert "cannot work" in rig.log()


def test_the_death_of_the_server_changes_the_status(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.receive_with("READY")
    rig.end_child()
    rig.accept_child()
    assert listener.receive_with("STATUS")["STATUS"] == "starting the server again, 0 running"


def test_an_abstract_socket(make_rig: Callable[..., Rig]) -> None:
    abstract = Listener(f"@scriptservice-{uuid4()}")
    try:
        make_rig(notify_socket=abstract.address).send({"type": "ready"})
        abstract.receive_with("READY")
    finally:
        abstract.close()


def test_a_full_socket_delays_nothing_and_gets_all_later(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    fill(listener)
    rig = make_rig(notify_socket=listener.address, watchdog_seconds=0.05)
    rig.send({"type": "ready"})
    command = rig.spawn("echo works")
    rig.wait_for(command, Kind.CLOSED)
    eventually(lambda: "manager_not_told" in rig.log(), "a line in the log")
    drain(listener)
    assert listener.receive_with("READY")["STATUS"].startswith("serving")
    assert rig.log().count("manager_not_told") == 1


def test_a_socket_that_is_gone_is_logged_once_and_may_come_back(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    listener.close()
    Path(listener.address).unlink()
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    command = rig.spawn("echo works")
    rig.wait_for(command, Kind.CLOSED)
    again = Listener(listener.address)
    try:
        again.receive_with("READY")
    finally:
        again.close()
    assert rig.log().count("manager_not_told") == 1


def test_an_address_of_another_kind_is_ignored(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(notify_socket="vsock:2:1234", watchdog_seconds=0.05)
    command = rig.spawn("echo works")
    rig.wait_for(command, Kind.CLOSED)
    assert "is not a path" in rig.log()


def test_a_whole_service_notifies_and_scripts_do_not_see_the_socket(
    listener: Listener, make_service: Callable[..., Service]
) -> None:
    environment = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "400000"}
    service = make_service(environment=environment).start()
    # Without WATCHDOG_PID the watchdog is for any process.
    listener.receive_with("READY")
    listener.receive_with("WATCHDOG")
    command = service.run("env; tr '\\0' '\\n' < /proc/self/environ")["id"]
    assert b"NOTIFY_SOCKET" not in service.bytes_of(command)
    assert b"WATCHDOG" not in service.bytes_of(command)
    assert service.process is not None
    for pid in (service.process.pid, service.server_pid):
        with contextlib.suppress(PermissionError):  # Only root may read it.
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
    service.stop()
    listener.receive_with("STOPPING")


def test_a_whole_service_is_ready_while_its_database_is_away(
    listener: Listener, make_service: Callable[..., Service]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    flags = ("--database", f"postgresql://nobody@127.0.0.1:{port}/nothing")
    environment = {"NOTIFY_SOCKET": listener.address}
    service = make_service(*flags, environment=environment).start(wait=False)
    status = listener.receive_with("READY")["STATUS"]
    assert "database" in status
    assert status.endswith(", 0 running")
    assert service.process is not None
    assert service.process.poll() is None


def test_the_watchdog_of_another_process_is_not_fed(
    listener: Listener, make_service: Callable[..., Service]
) -> None:
    environment = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    make_service(environment={"NOTIFY_SOCKET": listener.address, **environment}).start()
    listener.receive_with("READY")
    listener.receive_none_with("WATCHDOG", 0.5)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def fill(listener: Listener) -> None:
    """Fill the socket's queue."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    with sender, suppress(BlockingIOError):
        while True:
            sender.sendto(b"X=filler", listener.address)


def drain(listener: Listener) -> None:
    """Receive what waits, without waiting for more."""
    listener.socket.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            listener.socket.recv(4096)
    listener.socket.settimeout(PATIENCE_SECONDS)
