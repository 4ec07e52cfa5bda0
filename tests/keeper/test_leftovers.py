"""What a script leaves behind: waited for, ended, counted; and the directory it had to itself."""

import time
from collections.abc import Iterator
from datetime import datetime

import pytest

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


def test_a_leftover_gets_its_time_and_is_counted(service: Service) -> None:
    mark = unique_seconds()
    command = service.run(f"sleep {mark} & setsid sleep {mark} & echo end", leftover_seconds=1)
    assert command["status"] == "succeeded"
    assert command["leftovers_killed"] == 2
    assert 0.9 < seconds_between(command, "exited_at", "finished_at") < 1.9
    assert processes_with(mark) == []


def test_a_leftover_that_resists_is_killed_a_second_later(service: Service) -> None:
    mark = unique_seconds()
    script = f"(trap '' TERM; setsid sleep {mark}; sleep {mark}) & exit 7"
    command = service.run(script, leftover_seconds=0.5)
    assert (command["status"], command["exit_code"]) == ("failed", 7)
    assert command["leftovers_killed"] == 2
    assert 1.4 < seconds_between(command, "exited_at", "finished_at") < 2.6
    assert processes_with(mark) == []


def test_a_stopped_leftover_is_ended_by_its_signal(service: Service) -> None:
    mark = unique_seconds()
    command = service.run(f"sleep {mark} & kill -STOP $!", leftover_seconds=0.2)
    assert command["leftovers_killed"] == 1
    assert seconds_between(command, "exited_at", "finished_at") < 1
    assert processes_with(mark) == []


def test_a_leftover_that_ends_in_time_is_not_counted(service: Service) -> None:
    command = service.run("(sleep 0.4; echo late) & echo early", leftover_seconds=30)
    assert command["leftovers_killed"] == 0
    assert service.bytes_of(command["id"]) == b"early\nlate\n"
    assert seconds_between(command, "exited_at", "finished_at") < 5


def test_no_time_for_leftovers_ends_them_at_once(service: Service) -> None:
    mark = unique_seconds()
    before = time.monotonic()
    command = service.run(f"sleep {mark} & :", leftover_seconds=0)
    assert command["leftovers_killed"] == 1
    assert time.monotonic() - before < 1.5
    assert processes_with(mark) == []


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


def test_a_removal_holds_up_no_other_script(service: Service) -> None:
    big = service.submit(
        "for a in $(seq 40); do mkdir $a; (cd $a && touch $(seq 100)); done; sleep 0.2",
        working_directory="private",
    )["id"]
    while service.get(big)["status"] in {"queued", "running"}:
        before = time.monotonic()
        assert service.run("echo quick")["status"] == "succeeded"
        assert time.monotonic() - before < 2
    assert service.wait(big)["status"] == "succeeded"
