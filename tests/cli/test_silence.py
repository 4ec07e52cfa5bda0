"""``run`` and ``logs -f`` on connections that are open and silent."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import environment
from support.service import Service, eventually, new_directory
from support.silence import NewConnections, SilentProxy, silent_proxy

RETRY_SECONDS = 8.0
SLACK_SECONDS = 15.0
"""How much later than it should a program may end on a busy machine; it was a minute and more."""


@pytest.fixture
def proxy(service: Service) -> Iterator[SilentProxy]:
    with silent_proxy(service.port) as made:
        yield made


class Program:
    """``run`` of a gated script, or ``logs -f`` of it, through the proxy.

    Attributes:
        command: the id of what it follows.
    """

    def __init__(self, verb: str, service: Service, proxy: SilentProxy) -> None:
        self._gate: Path = new_directory() / "gate"
        self._service = service
        script = f"echo before; until [ -e {self._gate} ]; do sleep 0.05; done; echo after; exit 5"
        words = ["run", script]
        if verb == "logs":
            words = ["logs", "-f", service.submit(script)["id"]]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "scriptservice.cli",
                *words,
                "--retry-seconds",
                str(RETRY_SECONDS),
            ],
            env=environment(service, SCRIPTSERVICE_URL=proxy.url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"before\n"
        (newest,) = service.client.get("/v1/commands?limit=1").json()["items"]
        self.command: str = newest["id"]

    def open_gate(self) -> None:
        self._gate.touch()

    def end(self) -> tuple[int, bytes, bytes]:
        """Return its exit code and what it printed since the first line."""
        try:
            stdout, stderr = self._process.communicate(timeout=60)
        finally:
            self._process.kill()
            self.open_gate()
            self._service.wait(self.command)
        return self._process.returncode, stdout, stderr


@pytest.mark.parametrize(("verb", "code"), [("run", 5), ("logs", 0)])
def test_it_goes_on_by_position(service: Service, proxy: SilentProxy, verb: str, code: int) -> None:
    program = Program(verb, service, proxy)
    proxy.fall_silent("work")
    program.open_gate()
    assert program.end() == (code, b"after\n", b"")


@pytest.mark.parametrize("new", ["hang", "refuse"])
@pytest.mark.parametrize("verb", ["run", "logs"])
def test_it_ends_in_its_own_time_and_says_how_to_go_on(
    service: Service, proxy: SilentProxy, verb: str, new: NewConnections
) -> None:
    program = Program(verb, service, proxy)
    began = time.monotonic()
    proxy.fall_silent(new)
    code, stdout, stderr = program.end()
    assert time.monotonic() - began < RETRY_SECONDS + SLACK_SECONDS
    assert (code, stdout) == (125, b"")
    lost, how = stderr.decode().splitlines()
    assert lost.startswith(f"scriptservice: cannot reach {proxy.url}: ")
    assert how == f"to follow it again: scriptservice logs -f {program.command}"


def test_a_submit_that_is_never_answered(service: Service, proxy: SilentProxy) -> None:
    proxy.fall_silent("hang")
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "scriptservice.cli", "run", "--retry-seconds", "5", "true"],
        env=environment(service, SCRIPTSERVICE_URL=proxy.url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert 5 <= time.monotonic() - began < 5 + SLACK_SECONDS
    assert ended.returncode == 125
    assert b"cannot reach" in ended.stderr
    eventually(lambda: proxy.accepted, "a connection")
