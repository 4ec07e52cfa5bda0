"""An upgrade to code that does not work: the old code continues or recovers, and says why.

One service goes through all these tests, except where the code has to be changed before its start.
"""

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


@pytest.fixture(scope="module")
def shared_installation() -> Iterator[Installation]:
    made = Installation()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def installed(
    shared_installation: Installation, new_database: Callable[[], str | None]
) -> Iterator[Service]:
    """A service that runs from the shared installation."""
    service = Service(python=shared_installation.python, database=new_database())
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture
def installation(shared_installation: Installation, installed: Service) -> Iterator[Installation]:
    """The shared installation, which is restored after each test."""
    assert str(shared_installation.directory) in keeper_of(installed).cmdline()[0]
    yield shared_installation
    shared_installation.restore_all()


def said_since(service: Service, before: int) -> str:
    """Return what a service has logged since its log was ``before`` characters long."""
    return service.output()[before:].replace('\\"', '"')


def assert_continues(service: Service, command: str, keeper: list[str]) -> None:
    """Assert that nothing is lost, and that the same keeper program runs new commands."""
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
    made.change(
        "server/composition.py", "import asyncio\n", "import asyncio\nimport no_such_module\n"
    )


def break_server_at_once(made: Installation) -> None:
    made.change("server/__main__.py", "import sys\n", "import sys\nsys.exit(3)\n")


def change_the_protocol(made: Installation) -> None:
    made.change("protocol/frames.py", "PROTOCOL_VERSION = 1\n", "PROTOCOL_VERSION = 2\n")


def break_keeper(made: Installation) -> None:
    made.change(
        "keeper/tree/cgroup.py", "import signal\n", "import signal\nimport no_such_module\n"
    )


def change_the_handover_format(made: Installation) -> None:
    made.change("keeper/upgrade/handover.py", "FORMAT = 1\n", "FORMAT = 2\n")


def remove_a_field(made: Installation) -> None:
    made.change("keeper/life/life.py", "    timeout_at: float | None = None\n", "")


SERVER_FAULTS: dict[Callable[[Installation], None], str] = {
    break_server: "the new server cannot be loaded: ModuleNotFoundError",
    break_server_at_once: "the new server ended with 3 before it was prepared",
    change_the_protocol: "the new server speaks version 2 of the protocol, this keeper 1",
}
KEEPER_FAULTS: dict[Callable[[Installation], None], str] = {
    break_keeper: "the new keeper cannot be loaded: ModuleNotFoundError",
    change_the_handover_format: "cannot take a hand-over of format 1, only 2",
    remove_a_field: "has timeout_at, of a newer release",
}


@ON_SQLITE
@pytest.mark.parametrize("fault", SERVER_FAULTS, ids=lambda fault: fault.__name__)
def test_the_new_server_does_not_start(
    installation: Installation, installed: Service, fault: Callable[[Installation], None]
) -> None:
    fault(installation)
    server_does_not_start(installed, SERVER_FAULTS[fault])


@ON_SQLITE
def test_the_new_server_does_not_get_ready(make_service: Callable[..., Service]) -> None:
    made = Installation()
    made.change(
        "keeper/upgrade/upgrade_steps.py", "PREPARE_SECONDS = 60.0", "PREPARE_SECONDS = 2.0"
    )
    service = make_service(python=made.python).start()
    made.change("server/startup/takeover.py", "    web.load()\n", "    await asyncio.sleep(3600)\n")
    server_does_not_start(service, "the new server was not prepared within 2 s")
    made.remove()


def server_does_not_start(service: Service, why: str) -> None:
    """Assert that two upgrades fail for this reason, and that everything continues."""
    server, keeper, before = service.server_pid, keeper_of(service).cmdline(), len(service.output())
    command = service.submit(SCRIPT)["id"]
    for _ in range(2):
        report = upgrade(service)
        assert not report.ok
        assert why in report.message
    assert why in said_since(service, before)
    eventually(lambda: len(keeper_of(service).children()) == 2, "the successor to be gone")
    assert service.server_pid == server
    assert_continues(service, command, keeper)


@ON_SQLITE
@pytest.mark.parametrize("fault", KEEPER_FAULTS, ids=lambda fault: fault.__name__)
def test_the_new_keeper_cannot_take_over(
    installation: Installation, installed: Service, fault: Callable[[Installation], None]
) -> None:
    service = installed
    keeper, before = keeper_of(service).cmdline(), len(service.output())
    command = service.submit(SCRIPT, timeout_seconds=3600)["id"]
    fault(installation)
    report = upgrade(service)
    assert not report.ok
    assert KEEPER_FAULTS[fault] in report.message
    assert "upgrade_failed" in said_since(service, before)
    eventually(lambda: len(keeper_of(service).children()) == 2, "the others to be gone")
    assert_continues(service, command, keeper)
    installation.restore_all()
    server = service.server_pid
    assert upgrade(service).ok
    assert service.server_pid != server


def test_the_new_server_dies_when_it_takes_over(
    installation: Installation, installed: Service
) -> None:
    service, before = installed, len(installed.output())
    command = service.submit(SCRIPT)["id"]
    old = "            hello = await self._link.wait_for_hello()\n"
    installation.change(
        "server/server_process.py",
        old,
        f"{old}            if passive:\n                os._exit(9)\n",
    )
    report = upgrade(service)
    assert report.ok, report
    assert "server_ended code=9" in said_since(service, before)
    assert_continues(service, command, keeper_of(service).cmdline())


def test_the_new_server_never_serves(installation: Installation, installed: Service) -> None:
    """The keeper restarts the server from the new code until that works; scripts continue."""
    service, before = installed, len(installed.output())
    command = service.submit(SCRIPT)["id"]
    old = "            server = Server(self._config, self._link, hello)\n"
    installation.change("server/server_process.py", old, f"            os._exit(9)\n{old}")
    service.close_client()
    number = ask_for_upgrade(service)
    eventually(lambda: said_since(service, before).count("server_ended code=9") >= 3, "some starts")
    installation.restore("server/server_process.py")
    report = end_of_upgrade(service, number)
    assert report.ok, report
    assert_continues(service, command, keeper_of(service).cmdline())
