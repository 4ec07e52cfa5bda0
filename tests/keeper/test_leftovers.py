"""Processes that a script leaves behind, and its private directory."""

from collections.abc import Iterator
from datetime import datetime

import pytest

from support.gates import Gate
from support.scripts import unique_seconds
from support.service import Service, eventually, processes_with, running_service

FLAGS = {"cgroup": (), "walk": ("--no-use-cgroups",)}


@pytest.fixture(scope="module", params=["cgroup", "walk"])
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with running_service(*FLAGS[request.param]) as running:
        yield running


def seconds_between(command: dict[str, str], first: str, second: str) -> float:
    moments = [datetime.fromisoformat(command[name]) for name in (first, second)]
    return (moments[1] - moments[0]).total_seconds()


ENDS_BY_ITS_SIGNAL = r"trap 'echo asked to end; exit' TERM; touch \$1; {then}; sleep \$0 & wait"
"""The program of a leftover that prints a line at SIGTERM, which SIGKILL would prevent."""


def ends_by_its_signal(mark: str, then: str = ":") -> str:
    """Return a script that leaves such a process, and ends once that has set its trap."""
    ready = f"ready-{mark}"
    program = ENDS_BY_ITS_SIGNAL.format(then=then)
    return f'bash -c "{program}" {mark} {ready} & until [ -e {ready} ]; do sleep 0.02; done'


def test_leftovers_get_their_time_and_are_counted(service: Service) -> None:
    mark = unique_seconds()
    script = f"setsid sleep {mark} & {ends_by_its_signal(mark)}; echo end"
    command = service.run(script, leftover_seconds=1)
    assert command["status"] == "succeeded"
    assert command["leftovers_killed"] == 3
    assert service.bytes_of(command["id"]) == b"end\nasked to end\n"
    assert seconds_between(command, "exited_at", "finished_at") > 0.9
    assert processes_with(mark) == []


def test_a_leftover_that_resists_is_killed_a_second_later(service: Service) -> None:
    mark = unique_seconds()
    script = f"(trap '' TERM; setsid sleep {mark}; sleep {mark}) & exit 7"
    command = service.run(script, leftover_seconds=0.5)
    assert (command["status"], command["exit_code"]) == ("failed", 7)
    assert command["leftovers_killed"] == 2
    assert seconds_between(command, "exited_at", "finished_at") > 1.4
    assert processes_with(mark) == []


def test_a_stopped_leftover_is_ended_by_its_signal(service: Service) -> None:
    mark = unique_seconds()
    stopped = 'until grep -q "^State:.T" /proc/$!/status; do sleep 0.02; done'
    leaves = ends_by_its_signal(mark, then=r"kill -STOP \$\$")
    command = service.run(f"{leaves}; {stopped}", leftover_seconds=0.2)
    assert command["leftovers_killed"] == 1
    assert service.bytes_of(command["id"]) == b"asked to end\n"
    assert processes_with(mark) == []


def test_a_leftover_that_ends_in_time_is_not_counted(service: Service) -> None:
    gate = Gate(service)
    script = f"({gate.wait}; echo late) & echo early"
    command = service.submit(script, leftover_seconds=3600)["id"]
    eventually(lambda: service.get(command)["exited_at"], "its exit on record")
    gate.open()
    assert service.wait(command)["leftovers_killed"] == 0
    assert service.bytes_of(command) == b"early\nlate\n"


def test_no_time_for_leftovers_ends_them_at_once(service: Service) -> None:
    def waited_seconds() -> float:
        mark = unique_seconds()
        command = service.run(f"sleep {mark} & :", leftover_seconds=0)
        assert command["leftovers_killed"] == 1
        assert processes_with(mark) == []
        return seconds_between(command, "exited_at", "finished_at")

    # The default is 2 s. The machine may delay the keeper for that long, but not every time.
    assert any(waited_seconds() < 1.5 for _ in range(10))


def test_a_stop_ends_the_wait_for_leftovers_and_the_exit_decides(service: Service) -> None:
    mark = unique_seconds()
    command = service.submit(f"trap '' TERM; sleep {mark} & exit 0", leftover_seconds=3600)["id"]
    eventually(lambda: service.get(command)["exited_at"], "its exit on record")
    response = service.client.post(f"/v1/commands/{command}/stop", json={"grace_seconds": 0.2})
    assert response.status_code == 202
    final = service.wait(command)
    assert (final["status"], final["leftovers_killed"]) == ("succeeded", 1)
    assert processes_with(mark) == []


def test_a_private_directory_is_empty_and_goes_with_its_command(service: Service) -> None:
    command = service.run(
        """ls -A; pwd
        for a in $(seq 40); do
            mkdir -p $a/deep/er; for b in $(seq 40); do : > $a/deep/$b; done
        done
        mkdir closed; : > closed/file; chmod 0 closed
        ln -s /etc/passwd link; ln -s / root; chmod 0500 .""",
        working_directory="private",
    )
    assert command["status"] == "succeeded", service.bytes_of(command["id"])
    path = service.data_dir / "private" / command["id"]
    assert service.bytes_of(command["id"]).decode() == f"{path}\n"
    assert not path.exists()
    assert list((service.data_dir / "private").iterdir()) == []


def test_a_removal_delays_no_other_script(service: Service) -> None:
    """Some scripts start and end between the exit of a script and the end of its removal."""
    for _ in range(20):
        big = service.submit(
            "for a in $(seq 40); do mkdir $a; (cd $a && touch $(seq 100)); done",
            working_directory="private",
        )["id"]
        others = []
        while service.get(big)["status"] in {"queued", "running"}:
            others.append(service.run("echo quick"))
            assert others[-1]["status"] == "succeeded"
        removed = service.wait(big)
        assert removed["status"] == "succeeded"
        began, ended = removed["exited_at"], removed["finished_at"]
        if any(began < each["created_at"] and each["finished_at"] < ended for each in others):
            return
    raise AssertionError("no other script ran during twenty removals")
