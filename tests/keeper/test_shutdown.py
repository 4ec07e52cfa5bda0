"""A shutdown in order, and what the service finds when it starts again."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from scriptservice.protocol.journal_format import Kind
from support.orphans import without_environment
from support.rig import Rig
from support.scripts import keeper_of, unique_seconds
from support.service import Service, eventually, processes_with
from support.upgrades import descriptors

FLAGS = {"cgroup": (), "walk": ("--no-use-cgroups",)}


def stored_status(service: Service, command: str) -> str:
    """Return a command's status in the database, while no service runs."""
    number = command.replace("-", "")
    with sqlite3.connect(service.data_dir / "scriptservice.db") as connection:
        rows = connection.execute("SELECT id, status FROM commands").fetchall()
    connection.close()
    shown = {
        (row[0].hex() if isinstance(row[0], bytes) else str(row[0]).replace("-", "")): row[1]
        for row in rows
    }
    return str(shown[number])


@pytest.mark.parametrize("mode", list(FLAGS))
def test_a_shutdown_ends_all_and_keeps_the_queue(
    make_service: Callable[..., Service], mode: str
) -> None:
    flags = (*FLAGS[mode], "--max-running", "2", "--shutdown-grace-seconds")
    service = make_service(*flags, "3600").start()
    mark = unique_seconds()
    obeys = service.submit("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.02; done")
    leaves = service.submit(f"sleep {mark} & echo ready", leftover_seconds=3600)
    queued = service.submit("echo later")
    for command in (obeys, leaves):
        service.wait_for_output(command["id"], b"ready")
    eventually(lambda: service.get(leaves["id"])["exited_at"], "its exit")
    assert service.stop() == 0
    assert processes_with(mark) == []
    for command, status in ((obeys, "stopped"), (leaves, "succeeded"), (queued, "queued")):
        assert stored_status(service, command["id"]) == status
    service.flags = (*flags, "0.3")
    service.start()
    final = service.get(obeys["id"])
    assert (final["exit_code"], final["signal"]) == (0, None)
    assert "shut down" in final["reason"]
    assert service.bytes_of(obeys["id"], stream="stdout") == b"ready\nbye\n"
    assert service.wait(queued["id"])["status"] == "succeeded"
    assert service.bytes_of(queued["id"]) == b"later\n"
    resists = service.submit(f"trap '' TERM; echo ready; setsid sleep {mark} & sleep {mark}")["id"]
    service.wait_for_output(resists, b"ready")
    assert service.stop() == 0
    assert processes_with(mark) == []
    assert stored_status(service, resists) == "stopped"
    service.start()
    final = service.get(resists)
    assert (final["exit_code"], final["signal"]) == (None, "SIGKILL")
    assert "shut down" in final["reason"]


def test_a_shutdown_kills_orphans_that_belong_to_no_known_command() -> None:
    """They are gone before the server finishes: the keeper ends right after the server."""
    rig = Rig()
    mark = unique_seconds()
    try:
        rig.send({"type": "ready"}, {"type": "adopted"})
        command = rig.spawn(
            f"(setsid env -i /bin/sleep {mark} >/dev/null 2>&1 &); sleep 3600", grace_seconds=0
        )
        eventually(lambda: without_environment(mark), "the orphan")
        rig.process.terminate()
        rig.receive("finish")
        assert processes_with(mark) == []
        assert rig.kinds(command)[-1] == Kind.CLOSED
    finally:
        for process in processes_with(mark):
            process.kill()
        rig.close()


def test_a_second_signal_kills_at_once(make_service: Callable[..., Service]) -> None:
    service = make_service("--shutdown-grace-seconds", "3600").start()
    mark = unique_seconds()
    command = service.submit(
        f"trap '' TERM; echo ready; sleep {mark} & while :; do sleep {mark}; done",
        grace_seconds=3600,
    )["id"]
    service.wait_for_output(command, b"ready")
    assert service.process is not None
    service.process.terminate()
    service.wait_for(command, "stopping")
    assert service.process.poll() is None
    assert service.stop() == 0
    assert processes_with(mark) == []
    assert stored_status(service, command) == "stopped"


def test_a_shutdown_takes_nothing_new(make_service: Callable[..., Service]) -> None:
    service = make_service("--shutdown-grace-seconds", "3600").start()
    command = service.submit("trap '' TERM; echo ready; sleep 3600", grace_seconds=3600)["id"]
    service.wait_for_output(command, b"ready")
    assert service.process is not None
    service.process.terminate()
    service.wait_for(command, "stopping")

    def refused() -> bool:
        return service.client.post("/v1/commands", json={"script": "true"}).status_code == 503

    eventually(refused, "submits to be refused")
    assert service.stop() == 0


def test_a_shutdown_while_the_server_is_gone_is_recorded(
    make_service: Callable[..., Service],
) -> None:
    service = make_service("--max-running", "1", "--shutdown-grace-seconds", "3600").start()
    command = service.submit("trap 'sleep 0.3; exit 5' TERM; echo ready; sleep 3600 & wait")["id"]
    queued = service.submit("echo later")["id"]
    service.wait_for_output(command, b"ready")
    for _ in range(3):  # The back-off then delays the next start.
        service.kill_server()
        eventually(lambda: service.server_pid, "the next one")
    service.kill_server()
    assert service.stop() == 0
    assert stored_status(service, command) == "stopped"
    assert stored_status(service, queued) == "queued"
    service.start()
    assert service.get(command)["exit_code"] == 5
    assert service.wait(queued)["status"] == "succeeded"


def test_a_server_killed_while_it_finishes_is_replaced(
    make_service: Callable[..., Service],
) -> None:
    service = make_service().start()
    command = service.submit("trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done")["id"]
    service.wait_for_output(command, b"ready")
    server = service.server_pid
    os.kill(server, signal.SIGSTOP)
    assert service.process is not None
    service.process.terminate()
    eventually(lambda: not processes_with(command), "the script's end")
    os.kill(server, signal.SIGKILL)
    assert service.stop() == 0
    assert stored_status(service, command) == "stopped"


def test_a_keeper_whose_terminal_is_gone_lives(make_service: Callable[..., Service]) -> None:
    reading, writing = os.pipe()
    service = make_service("--log-level", "debug")
    service.log.close()
    service.log = os.fdopen(writing, "wb")  # type: ignore[assignment]
    service.start()
    os.close(reading)
    service.kill_server()  # The keeper logs this, to a closed pipe.
    service.close_client()
    service.wait_until_healthy()
    for number in range(3):
        command = service.run(f"echo {number}", working_directory=None if number else "/no/such")
        assert command["status"] == ("succeeded" if number else "failed")
    assert service.stop() == 0


def test_a_keeper_without_standard_streams_works(make_service: Callable[..., Service]) -> None:
    service = make_service()
    service.start()
    service.stop()
    arguments = [
        sys.executable, "-m", "scriptservice.cli", "serve",
        "--port", str(service.port), "--data-dir", str(service.data_dir),
    ]  # fmt: skip
    shell = ["/bin/bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash"]
    service.process = subprocess.Popen([*shell, *arguments], start_new_session=True)
    service.wait_until_healthy()
    command = service.run("echo out; echo err >&2; readlink /proc/self/fd/0")
    assert service.bytes_of(command["id"], stream="stdout") == b"out\n/dev/null\n"
    service.kill_server()
    service.close_client()
    service.wait_until_healthy()
    assert service.run("echo again")["status"] == "succeeded"
    assert service.stop() == 0


@pytest.mark.parametrize("mode", list(FLAGS))
def test_two_hundred_commands_leave_nothing_in_the_keeper(
    make_service: Callable[..., Service], mode: str
) -> None:
    service = make_service(*FLAGS[mode]).start()
    keeper = keeper_of(service)
    service.run("true")
    base = descriptors(keeper.pid)
    kinds = [
        ("echo out; echo err >&2", {}),
        ("true", {"working_directory": "/no/such"}),
        ("true", {"interpreter": ["/no/such"]}),
        ("echo x > file; (sleep 0.1 &)", {"working_directory": "private"}),
        ("cat >/dev/null; exec >&- 2>&-", {"stdin": "x" * 100_000}),
        ("yes", {"timeout_seconds": 0.05, "grace_seconds": 0, "output_limit_bytes": 10}),
    ]
    commands = []
    for number in range(200):
        script, fields = kinds[number % len(kinds)]
        commands.append(service.submit(script, **fields)["id"])
    for command in commands:
        service.wait(command)
    eventually(lambda: descriptors(keeper.pid) == base, "descriptors to be closed")
    eventually(lambda: len(keeper.children()) == 1, "zombies and helpers to be gone")
    cgroups = f"scriptservice-{keeper.pid}-"

    def left() -> list[str]:
        walked = os.walk("/sys/fs/cgroup")
        return [name for root, names, _ in walked if cgroups in root for name in names]

    eventually(lambda: not left(), lambda: f"the cgroups to be gone: {left()}")
    assert list((service.data_dir / "private").iterdir()) == []
    assert "fault" not in service.output()


def test_output_grows_neither_the_keeper_nor_the_journal(
    make_service: Callable[..., Service],
) -> None:
    service = make_service().start()
    keeper = keeper_of(service)
    service.run("head -c 1000000 /dev/zero")
    before = keeper.memory_info().rss
    for _ in range(3):
        service.run("head -c 30000000 /dev/zero; head -c 10000000 /dev/zero >&2")
    assert keeper.memory_info().rss - before < 2 << 20
    journal = service.data_dir / "journal"
    eventually(
        lambda: sum(path.stat().st_size for path in journal.iterdir()) < 5 << 20, "a small journal"
    )


def test_an_idle_service_rests(make_service: Callable[..., Service]) -> None:
    service = make_service().start()
    service.submit("sleep 3600")
    service.run("true")
    keeper = keeper_of(service)

    def quiet() -> bool:
        used = keeper.cpu_times()
        with pytest.raises(psutil.TimeoutExpired):
            keeper.wait(0.5)
        now = keeper.cpu_times()
        return bool(now.user + now.system - used.user - used.system <= 0.02)

    eventually(quiet, "half a second of rest")
