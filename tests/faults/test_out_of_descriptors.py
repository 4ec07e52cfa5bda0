"""Server and keeper run out of file descriptors and recover when there are some again."""

import itertools
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import httpx2 as httpx
import pytest

from support.oracle import Trial, every_kind, printer, quick, ticker
from support.scripts import ask_to_stop, keeper_of, unique_seconds
from support.service import ON_SQLITE, PATIENCE_SECONDS, Service, eventually, processes_with

FLAGS = {"cgroup": (), "walk": ("--no-use-cgroups",)}


@contextmanager
def at_most(pid: int, descriptors: int) -> Iterator[None]:
    """Limit the descriptors of a running process while the ``with`` block runs."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def lowest_free(pid: int) -> int:
    """Return the number that a process's next descriptor would get."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in itertools.count() if number not in taken)


@ON_SQLITE
@pytest.mark.needs_root
def test_the_server_has_none_left(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    trial.note_descriptors()
    server = service.server_pid
    trial.submit(ticker(40))
    trial.submit(printer())
    taken = len(os.listdir(f"/proc/{server}/fd"))
    with at_most(server, taken + 4), ExitStack() as opened:
        for _ in range(30):
            client = socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS)
            opened.enter_context(closing(client))
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{service.url}/healthz", timeout=2, verify=False)
        # Requests on an existing connection are answered.
        assert service.client.get("/healthz").status_code == 200
    eventually(lambda: _answers(service), "somebody new to be answered")
    trial.submit_all(every_kind())
    trial.verify()
    assert service.server_pid == server


def _answers(service: Service) -> bool:
    try:
        return (
            httpx.get(f"{service.url}/healthz", timeout=PATIENCE_SECONDS, verify=False).status_code
            == 200
        )
    except httpx.TransportError:
        return False


@ON_SQLITE
@pytest.mark.needs_root
@pytest.mark.parametrize("mode", FLAGS)
def test_the_keeper_has_none_left(make_service: Callable[..., Service], mode: str) -> None:
    """Scripts that it cannot start wait; processes that it cannot check do not count as ended."""
    service = make_service(*FLAGS[mode]).start()
    trial = Trial(service)
    trial.submit(quick())
    trial.settle()
    trial.note_descriptors()
    keeper = keeper_of(service).pid
    mark = unique_seconds()
    resisting = f"trap '' TERM; (setsid sleep {mark} &); echo ready; sleep {mark}"
    stopped = [service.submit(resisting)["id"] for _ in range(3)]
    for command in stopped:
        service.wait_for_output(command, b"ready")
    eventually(lambda: len(processes_with(mark)) == 2 * len(stopped), "all of them")
    with at_most(keeper, lowest_free(keeper)):
        waits = service.submit("echo waited")["id"]
        trial.submit_all(every_kind())
        for command in stopped:
            ask_to_stop(service, command, grace_seconds=0.1)
        eventually(
            lambda: service.output().count("tree_waits") >= len(stopped), "all to be looked at"
        )
        # No process could be checked, so none counts as ended, and nothing was started.
        assert len(processes_with(mark)) == 2 * len(stopped)
        assert {service.get(command)["status"] for command in stopped} == {"stopping"}
        assert service.get(waits)["status"] == "queued"
        assert service.client.get("/readyz").status_code == 200
    for command in stopped:
        assert service.wait(command)["status"] == "stopped"
    assert processes_with(mark) == []
    assert service.wait(waits)["status"] == "succeeded"
    trial.verify()
    assert "keeper_fault" not in service.output()
