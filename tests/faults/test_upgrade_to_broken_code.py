"""An upgrade to code that does not work: the old goes on or recovers, and says why."""

from collections.abc import Callable, Iterator

import pytest

from support.scripts import keeper_of
from support.service import ON_SQLITE, Service, eventually
from support.upgrades import (
    UNTIL_TOLD,
    Installation,
    ask_for_upgrade,
    end_of_upgrade,
    let_end,
    upgrade,
)

SCRIPT = f"i=0; while [ ! -e {UNTIL_TOLD} ]; do echo $((++i)); sleep 0.02; done; exit 7"


@pytest.fixture
def installation() -> Iterator[Installation]:
    made = Installation()
    yield made
    made.remove()


@pytest.fixture
def installed(installation: Installation, make_service: Callable[..., Service]) -> Service:
    """A service that runs from that installation."""
    service = make_service(python=installation.python).start()
    assert str(installation.directory) in keeper_of(service).cmdline()[0]
    return service


def must_go_on(service: Service, command: str, keeper: list[str]) -> None:
    """Nothing is lost, the keeper is the same program as before, and takes more."""
    assert keeper_of(service).cmdline() == keeper
    assert service.get(command)["status"] == "running"
    let_end(service, command)
    final = service.wait(command)
    assert (final["status"], final["exit_code"]) == ("failed", 7)
    printed = service.bytes_of(command, stream="stdout").splitlines()
    assert printed == [b"%d" % number for number in range(1, len(printed) + 1)]
    assert printed
    assert service.run("echo more")["status"] == "succeeded"


def break_server(made: Installation) -> None:
    made.change("server/app.py", "import asyncio\n", "import asyncio\nimport no_such_module\n")


def break_server_at_once(made: Installation) -> None:
    made.change("server/__main__.py", "import sys\n", "import sys\nsys.exit(3)\n")


def hang_server(made: Installation) -> None:
    made.change("server/turns.py", "    web.load()\n", "    await asyncio.sleep(3600)\n")


def speak_otherwise(made: Installation) -> None:
    made.change("keeper/protocol.py", "PROTOCOL_VERSION = 1\n", "PROTOCOL_VERSION = 2\n")


def break_keeper(made: Installation) -> None:
    made.change("keeper/cgroup.py", "import signal\n", "import signal\nimport no_such_module\n")


def hand_over_otherwise(made: Installation) -> None:
    made.change("keeper/handover.py", "FORMAT = 1\n", "FORMAT = 2\n")


def lose_a_field(made: Installation) -> None:
    made.change("keeper/table.py", "    timeout_at: float | None\n", "")


SERVER_FAULTS: dict[Callable[[Installation], None], str] = {
    break_server: "the new server cannot be loaded: ModuleNotFoundError",
    break_server_at_once: "the new server ended with 3 before it was prepared",
    hang_server: "the new server was not prepared within 2 s",
    speak_otherwise: "the new server speaks version 2 of the protocol, this keeper 1",
}
KEEPER_FAULTS: dict[Callable[[Installation], None], str] = {
    break_keeper: "the new keeper cannot be loaded: ModuleNotFoundError",
    hand_over_otherwise: "cannot take a hand-over of format 1, only 2",
    lose_a_field: "has timeout_at, of a newer release",
}


@ON_SQLITE
@pytest.mark.parametrize("fault", SERVER_FAULTS, ids=lambda fault: fault.__name__)
def test_the_new_server_does_not_start(
    installation: Installation,
    make_service: Callable[..., Service],
    fault: Callable[[Installation], None],
) -> None:
    if fault is hang_server:
        # The others say so themselves, as soon as the machine lets them.
        installation.change("keeper/upgrade.py", "PREPARE_SECONDS = 60.0", "PREPARE_SECONDS = 2.0")
    service = make_service(python=installation.python).start()
    server, keeper = service.server_pid, keeper_of(service).cmdline()
    command = service.submit(SCRIPT)["id"]
    fault(installation)
    for _ in range(2):
        report = upgrade(service)
        assert not report.ok
        assert SERVER_FAULTS[fault] in report.message
    assert SERVER_FAULTS[fault] in service.output().replace('\\"', '"')
    eventually(lambda: len(keeper_of(service).children()) == 2, "the successor to be gone")
    assert service.server_pid == server
    must_go_on(service, command, keeper)


@ON_SQLITE
@pytest.mark.parametrize("fault", KEEPER_FAULTS, ids=lambda fault: fault.__name__)
def test_the_new_keeper_cannot_take_over(
    installation: Installation, installed: Service, fault: Callable[[Installation], None]
) -> None:
    service = installed
    keeper = keeper_of(service).cmdline()
    command = service.submit(SCRIPT, timeout_seconds=3600)["id"]
    fault(installation)
    report = upgrade(service)
    assert not report.ok
    assert KEEPER_FAULTS[fault] in report.message
    assert "upgrade_failed" in service.output()
    eventually(lambda: len(keeper_of(service).children()) == 2, "the others to be gone")
    must_go_on(service, command, keeper)
    for name in ("keeper/cgroup.py", "keeper/handover.py", "keeper/table.py"):
        installation.restore(name)
    assert upgrade(service).ok
    assert keeper_of(service).cmdline() != keeper


def test_the_new_server_dies_when_its_turn_comes(
    installation: Installation, installed: Service
) -> None:
    service = installed
    command = service.submit(SCRIPT)["id"]
    old = "            hello = await self._link.greeted()\n"
    installation.change(
        "server/process.py", old, f"{old}            if passive:\n                os._exit(9)\n"
    )
    report = upgrade(service)
    assert report.ok, report
    assert "server_ended code=9" in service.output()
    must_go_on(service, command, keeper_of(service).cmdline())


def test_the_new_server_never_serves(installation: Installation, installed: Service) -> None:
    """It is started again and again, from the new code, until that works; scripts go on."""
    service = installed
    command = service.submit(SCRIPT)["id"]
    old = "            server = Server(self._config, self._link, hello)\n"
    installation.change("server/process.py", old, f"            os._exit(9)\n{old}")
    service.close_client()
    number = ask_for_upgrade(service)
    eventually(lambda: service.output().count("server_ended code=9") >= 3, "some starts")
    installation.restore("server/process.py")
    report = end_of_upgrade(service, number)
    assert report.ok, report
    must_go_on(service, command, keeper_of(service).cmdline())
