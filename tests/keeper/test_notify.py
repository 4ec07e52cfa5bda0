"""What the service manager hears: from a real keeper, over a real datagram socket."""

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
    """A service manager's socket.

    Args:
        address: a path, or an abstract name after ``@``.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.socket.settimeout(PATIENCE_SECONDS)

    def hear(self) -> dict[str, str]:
        """Return the next datagram's lines."""
        lines = self.socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def hear_of(self, name: str, value: str | None = None) -> dict[str, str]:
        """Return the next datagram with a line, whatever comes before."""
        while True:
            heard = self.hear()
            if name in heard and value in (None, heard[name]):
                return heard

    def hear_nothing_of(self, name: str, seconds: float) -> None:
        """Hear that for so long nothing is said of something."""
        self.socket.settimeout(seconds)
        with suppress(TimeoutError):
            while True:
                assert name not in self.hear()
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


def test_ready_is_when_the_server_serves(listener: Listener, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(notify_socket=listener.address)
    assert listener.hear() == {"STATUS": "starting the server, 0 running"}
    listener.hear_nothing_of("READY", 0.3)
    rig.send({"type": "ready"})
    assert listener.hear() == {"READY": "1", "STATUS": "serving, 0 running"}


def test_a_server_that_waits_for_its_database_is_up_and_says_why(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "waiting", "reason": "the database\nREADY=0 is away"})
    said = listener.hear_of("READY")
    assert said == {"READY": "1", "STATUS": "the database READY=0 is away, 0 running"}
    rig.send({"type": "ready"})
    assert listener.hear_of("STATUS")["STATUS"] == "serving, 0 running"


def test_the_status_counts_and_is_not_told_at_every_script(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.hear_of("READY")
    started = time.monotonic()
    for _ in range(20):
        rig.wait_for(rig.spawn("echo done"), Kind.CLOSED)
    # Two, as never before: one may have been told while a script ran.
    for _ in range(2):
        rig.wait_for(rig.spawn("sleep 3600"), Kind.STARTED)
    heard = []
    while not heard or heard[-1] != "serving, 2 running":
        heard.append(listener.hear()["STATUS"])
    listener.hear_nothing_of("STATUS", 1.5)
    seconds = time.monotonic() - started
    assert len(heard) <= seconds + 2, heard


def test_the_watchdog_is_fed_at_half_its_time_whatever_the_server_does(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address, watchdog_seconds=2)
    heard_at: list[float] = []
    # From a server that never says that it is ready. Where the machine holds up the keeper, or
    # this test, some come late, and then the next ones soon.
    while len(heard_at) < 40 and not is_even(heard_at[-4:]):
        assert listener.hear_of("WATCHDOG")["WATCHDOG"] == "1"
        heard_at.append(time.monotonic())
    assert is_even(heard_at[-4:]), heard_at
    # Only the keeper's loop is judged, so a keeper that stands still is silent.
    rig.process.send_signal(signal.SIGSTOP)
    eventually(lambda: state_of(rig.process.pid) == "T", "the keeper to stand still")
    drain(listener)
    listener.hear_nothing_of("WATCHDOG", 1.5)
    rig.process.send_signal(signal.SIGCONT)
    listener.hear_of("WATCHDOG")


def is_even(heard_at: list[float]) -> bool:
    """Whether a watchdog of 2 s was fed four times: each time soon enough, and not all the time."""
    gaps = [later - earlier for earlier, later in pairwise(heard_at)]
    return len(gaps) == 3 and max(gaps) < 2 and sum(gaps) > 2


def test_no_watchdog_is_fed_that_nobody_has(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    make_rig(notify_socket=listener.address)
    listener.hear()
    listener.hear_nothing_of("WATCHDOG", 0.5)


def test_stopping_asks_for_the_time_that_the_grace_needs(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address, shutdown_grace_seconds=200)
    rig.send({"type": "ready"})
    listener.hear_of("READY")
    rig.process.send_signal(signal.SIGTERM)
    said = listener.hear_of("STOPPING")
    assert said["STATUS"] == "stopping, 0 running"
    assert int(said["EXTEND_TIMEOUT_USEC"]) > 200_000_000


def test_a_server_that_comes_back_while_stopping_is_not_ready(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address, shutdown_grace_seconds=200)
    command = rig.spawn("trap '' TERM; echo x; while :; do sleep 0.05; done", grace_seconds=200)
    rig.wait_for(command, Kind.OUTPUT)
    rig.process.send_signal(signal.SIGTERM)
    listener.hear_of("STOPPING")
    rig.send({"type": "ready"})
    listener.hear_nothing_of("READY", 0.5)
    rig.process.send_signal(signal.SIGTERM)


def test_sighup_is_told_as_a_reload_that_ends(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.hear_of("READY")
    rig.process.send_signal(signal.SIGHUP)
    said = listener.hear_of("RELOADING")
    assert "READY" not in said
    assert int(said["MONOTONIC_USEC"]) > 0
    listener.hear_nothing_of("READY", 0.3)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"})
    assert listener.hear_of("READY")["STATUS"] == "serving, 0 running"
    assert " upgraded " in rig.log()


def test_a_reload_that_fails_ends_too(listener: Listener, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.hear_of("READY")
    rig.process.send_signal(signal.SIGHUP)
    successor = rig.accept_successor()
    listener.hear_of("RELOADING")
    successor.sendall(encode({"type": "fatal", "message": "cannot work"}))
    listener.hear_of("READY")
    successor.close()
    assert "cannot work" in rig.log()


def test_the_death_of_the_server_is_told(listener: Listener, make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(notify_socket=listener.address)
    rig.send({"type": "ready"})
    listener.hear_of("READY")
    rig.end_child()
    rig.accept_child()
    assert listener.hear_of("STATUS")["STATUS"] == "starting the server again, 0 running"


def test_an_abstract_socket(make_rig: Callable[..., Rig]) -> None:
    abstract = Listener(f"@scriptservice-{uuid4()}")
    try:
        make_rig(notify_socket=abstract.address).send({"type": "ready"})
        abstract.hear_of("READY")
    finally:
        abstract.close()


def test_a_full_socket_delays_nothing_and_hears_it_later(
    listener: Listener, make_rig: Callable[..., Rig]
) -> None:
    fill(listener)
    rig = make_rig(notify_socket=listener.address, watchdog_seconds=0.05)
    rig.send({"type": "ready"})
    command = rig.spawn("echo works")
    rig.wait_for(command, Kind.CLOSED)
    eventually(lambda: "manager_not_told" in rig.log(), "a line in the log")
    drain(listener)
    assert listener.hear_of("READY")["STATUS"].startswith("serving")
    assert rig.log().count("manager_not_told") == 1


def test_a_socket_that_is_gone_costs_a_line_and_comes_back(
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
        again.hear_of("READY")
    finally:
        again.close()
    assert rig.log().count("manager_not_told") == 1


def test_an_address_of_another_kind_is_left_alone(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(notify_socket="vsock:2:1234", watchdog_seconds=0.05)
    command = rig.spawn("echo works")
    rig.wait_for(command, Kind.CLOSED)
    assert "is not a path" in rig.log()


def test_a_whole_service_tells_and_hands_none_of_it_on(
    listener: Listener, make_service: Callable[..., Service]
) -> None:
    environment = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "400000"}
    service = make_service(environment=environment).start()
    # Not for our pid: the watchdog of whoever started us.
    listener.hear_of("READY")
    listener.hear_of("WATCHDOG")
    command = service.run("env; tr '\\0' '\\n' < /proc/self/environ")["id"]
    assert b"NOTIFY_SOCKET" not in service.bytes_of(command)
    assert b"WATCHDOG" not in service.bytes_of(command)
    assert service.process is not None
    for pid in (service.process.pid, service.server_pid):
        with contextlib.suppress(PermissionError):  # only root may look
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
    service.stop()
    listener.hear_of("STOPPING")


def test_a_whole_service_is_ready_while_its_database_is_away(
    listener: Listener, make_service: Callable[..., Service]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    flags = ("--database", f"postgresql://nobody@127.0.0.1:{port}/nothing")
    environment = {"NOTIFY_SOCKET": listener.address}
    service = make_service(*flags, environment=environment).start(wait=False)
    status = listener.hear_of("READY")["STATUS"]
    assert "database" in status
    assert status.endswith(", 0 running")
    assert service.process is not None
    assert service.process.poll() is None


def test_the_watchdog_of_another_process_is_not_fed(
    listener: Listener, make_service: Callable[..., Service]
) -> None:
    environment = {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": str(os.getpid())}
    make_service(environment={"NOTIFY_SOCKET": listener.address, **environment}).start()
    listener.hear_of("READY")
    listener.hear_nothing_of("WATCHDOG", 0.5)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def fill(listener: Listener) -> None:
    """Let the socket's queue be full."""
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    with sender, suppress(BlockingIOError):
        while True:
            sender.sendto(b"X=filler", listener.address)


def drain(listener: Listener) -> None:
    """Take what waits, without waiting for more."""
    listener.socket.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            listener.socket.recv(4096)
    listener.socket.settimeout(PATIENCE_SECONDS)
