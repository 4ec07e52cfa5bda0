"""When a command is final no process of its tree is alive, whatever the processes tried."""

from collections.abc import Iterator

import pytest

from scriptservice.keeper.system.linux import process_stat
from support.gates import Gate
from support.needs import require
from support.orphans import unattributed_orphan
from support.scripts import ask_to_stop, stop, unique_seconds, wait_until_gone
from support.service import Service, eventually, processes_with, running_service

FLAGS = {"cgroup": (), "walk": ("--no-use-cgroups",)}


@pytest.fixture(scope="module", params=["cgroup", "walk"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with running_service(*FLAGS[request.param]) as running:
        assert running.ready()["tree_kill"] == request.param
        yield running


@pytest.fixture(scope="module")
def cgroup_service() -> Iterator[Service]:
    require("cgroup")
    with running_service() as running:
        assert running.ready()["tree_kill"] == "cgroup"
        yield running


@pytest.fixture(scope="module")
def walk_service() -> Iterator[Service]:
    with running_service("--no-use-cgroups") as running:
        yield running


def started(service: Service, script: str, **fields: object) -> str:
    """Submit a script that prints ``ready``; return its id once it has."""
    command = str(service.submit(script, **fields)["id"])
    service.wait_for_output(command, b"ready\n")
    return command


def test_a_tree_that_resists_is_gone_after_a_stop(service: Service) -> None:
    mark = unique_seconds()
    command = started(
        service,
        f"""trap '' TERM
        setsid sleep {mark} &
        env -i /bin/sleep {mark} &
        sleep {mark} & kill -STOP $!
        setsid bash -c 'sleep {mark}; :' &
        (setsid sleep {mark} >/dev/null 2>&1 &)
        echo ready
        while :; do sleep {mark}; done""",
    )
    eventually(lambda: len(processes_with(mark)) >= 6, "all of the tree")
    final = stop(service, command, grace_seconds=0.3)
    assert processes_with(mark) == []
    assert processes_with(command) == []
    assert final["status"] == "stopped"
    assert final["signal"] == "SIGKILL"
    assert final["exit_code"] is None


def test_orphans_that_wiped_their_environment_are_gone_after_a_stop(
    cgroup_service: Service,
) -> None:
    mark = unique_seconds()
    command = started(
        cgroup_service,
        f"""trap '' TERM
        (setsid env -i /bin/sleep {mark} &)
        (setsid setsid env -i /bin/sleep {mark} >/dev/null 2>&1 &)
        echo ready
        sleep {mark}""",
    )
    eventually(lambda: len(processes_with(mark)) == 3, "all of the tree")
    assert stop(cgroup_service, command, grace_seconds=0)["status"] == "stopped"
    assert processes_with(mark) == []


def test_unattributed_orphans_are_shown_and_killed_when_nothing_runs(
    walk_service: Service,
) -> None:
    mark = unique_seconds()
    other = started(walk_service, "echo ready; sleep 3600")
    orphan = unattributed_orphan(walk_service, mark)

    def shown() -> bool:
        degraded = walk_service.ready()["degraded"]
        return any(str(orphan.pid) in text for text in degraded)

    eventually(shown, "the orphan in /readyz")
    assert processes_with(mark) != []
    stop(walk_service, other, grace_seconds=0)
    wait_until_gone(mark)
    eventually(lambda: walk_service.ready()["degraded"] == [], "a clean /readyz")


def test_an_unattributed_orphan_with_the_pipe_does_not_delay_a_stop(walk_service: Service) -> None:
    mark = unique_seconds()
    other = started(walk_service, "echo ready; sleep 3600")
    command = started(
        walk_service,
        f"(setsid setsid env -i /bin/sleep {mark} &); echo ready; sleep 3600",
        leftover_seconds=3600,
    )
    assert stop(walk_service, command, grace_seconds=1)["status"] == "stopped"
    stop(walk_service, other, grace_seconds=0)
    wait_until_gone(mark)


def test_orphans_that_exec_for_ever_are_killed(service: Service) -> None:
    gate = Gate(service)
    # The keeper may read one during an exec, and find no environment with the command's id.
    commands = [
        service.submit(
            f"""(setsid bash -c 'echo $$; exec bash -c "$PROGRAM"' &); {gate.wait}""",
            env={"PROGRAM": 'exec bash -c "$PROGRAM"'},
            leftover_seconds=0,
        )["id"]
        for _ in range(5)
    ]
    for command in commands:
        service.wait_for_output(command, b"\n")
    gate.open()
    for command in commands:
        final = service.wait(command)
        stat = process_stat(int(service.bytes_of(command)))
        assert stat is None or stat.dead
        assert (final["status"], final["leftovers_killed"]) == ("succeeded", 1)


@pytest.mark.parametrize("environment", ["", "env -i"])
def test_a_fork_chain_is_killed(
    service: Service, cgroup_service: Service, environment: str
) -> None:
    target = cgroup_service if environment else service
    mark = f"chain-{unique_seconds()}"
    command = started(
        target,
        f"""trap '' TERM
        {environment} /bin/bash -c '
        hop() {{ if [ $1 -gt 0 ]; then hop $(($1 - 1)) & fi; }}
        echo ready
        hop 100000' {mark} &
        sleep 3600""",
    )
    assert stop(target, command, grace_seconds=0)["status"] == "stopped"
    assert processes_with(mark) == []
    assert processes_with(command) == []


def test_a_fork_chain_is_waited_for_to_its_end(service: Service) -> None:
    for _ in range(5):
        command = service.run(
            """hop() { if [ $1 -gt 0 ]; then hop $(($1 - 1)) & else echo end >$FILE; fi; }
            hop 100 >/dev/null 2>&1""",
            env={"FILE": "chain-end"},
            leftover_seconds=3600,
            working_directory=None,
        )
        end = service.run("cat chain-end; rm chain-end")
        assert service.bytes_of(end["id"]) == b"end\n"
        assert command["leftovers_killed"] == 0


def test_the_exit_code_of_an_orderly_end_is_kept(service: Service) -> None:
    command = started(service, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    final = stop(service, command)
    assert (final["status"], final["exit_code"], final["signal"]) == ("stopped", 3, None)


def test_a_script_that_stopped_itself_gets_the_signal(service: Service) -> None:
    command = started(service, "trap 'exit 4' TERM; echo ready; kill -STOP $$; sleep 3600")
    final = stop(service, command, grace_seconds=3600)
    assert (final["status"], final["exit_code"]) == ("stopped", 4)


def test_the_signal_is_the_one_that_was_asked_for(service: Service) -> None:
    command = started(service, "trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done")
    assert stop(service, command, signal="SIGUSR1")["exit_code"] == 5


def test_a_daemon_is_killed_with_its_script(service: Service) -> None:
    mark = unique_seconds()
    final = service.run(
        f"""python3 - <<'EOS'
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv("/bin/sleep", ["sleep", "{mark}"])
    os._exit(0)
os.wait()
EOS
        echo $?""",
        leftover_seconds=0,
    )
    assert processes_with(mark) == []
    assert final["status"] == "succeeded"
    assert final["leftovers_killed"] == 1


def test_a_second_stop_shortens_the_grace_and_changes_nothing_else(service: Service) -> None:
    command = started(service, "trap '' TERM; echo ready; sleep 3600 & wait; sleep 3600")
    ask_to_stop(service, command, grace_seconds=3600)
    service.wait_for(command, "stopping")
    assert stop(service, command, grace_seconds=0)["status"] == "stopped"


def test_a_time_out_ends_the_whole_tree(service: Service) -> None:
    mark = unique_seconds()
    final = service.run(
        f"trap '' TERM; setsid sleep {mark} & sleep {mark}", timeout_seconds=0.3, grace_seconds=0.2
    )
    assert final["status"] == "timed_out"
    assert processes_with(mark) == []


def test_an_output_limit_ends_the_whole_tree(service: Service) -> None:
    mark = unique_seconds()
    final = service.run(
        f"trap '' TERM; setsid sleep {mark} & yes",
        output_limit_bytes=100_001,
        on_output_limit="stop",
        grace_seconds=0.2,
    )
    assert final["status"] == "failed"
    assert processes_with(mark) == []
    assert service.bytes_of(final["id"]) == (b"y\n" * 50_001)[:100_001]


def test_a_daemon_during_its_execs_is_killed(service: Service) -> None:
    mark = unique_seconds()
    # Between two programs a process has no environment with the command's id.
    again = f'[ "$1" -gt 0 ] && exec sh -c "$0" "$0" $(($1 - 1)); exec sleep {mark}'
    for _ in range(5):
        final = service.run(
            f'again=\'{again}\'; setsid sh -c "$again" "$again" 400 >/dev/null 2>&1 & sleep 0.05',
            leftover_seconds=0,
        )
        assert processes_with(mark) == []
        assert (final["status"], final["leftovers_killed"]) == ("succeeded", 1)
