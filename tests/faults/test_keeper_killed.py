"""After ``kill -9`` of the keeper, running commands are lost and no process survives."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from scriptservice.keeper.journal.journal_writer import JournalWriter
from scriptservice.keeper.system.linux import boot_id, process_stat
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.journal_format import Kind
from support.oracle import Trial, endless
from support.scripts import cgroup_of, keeper_of, unique_seconds
from support.service import ON_SQLITE, PATIENCE_SECONDS, Service, eventually, processes_with

FLAGS = {"cgroup": (), "walk": ("--no-use-cgroups",)}


@pytest.fixture(params=["cgroup", "walk"])
def flags(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return FLAGS[request.param]


def directories_of_cgroups() -> set[str]:
    return {name for _, found, _ in os.walk("/sys/fs/cgroup") for name in found}


def test_what_ran_is_lost_and_nobody_survives(
    make_service: Callable[..., Service], flags: tuple[str, ...]
) -> None:
    service = make_service(*flags, "--max-running", "1").start()
    cgroups = {cgroup_of(keeper_of(service).pid)}
    mark = unique_seconds()
    command = service.submit(
        f"""trap '' TERM HUP INT
        echo $SCRIPTSERVICE_COMMAND_ID >> runs
        setsid sleep {mark} & sleep {mark} &
        until grep -q {mark} /proc/$!/cmdline; do sleep 0.02; done; kill -STOP $!
        (setsid sleep {mark} >/dev/null 2>&1 </dev/null &)
        echo started; echo problem >&2
        sleep {mark}"""
    )["id"]
    queued = service.submit("echo $SCRIPTSERVICE_COMMAND_ID >> runs; echo later")["id"]
    eventually(lambda: len(processes_with(mark)) == 4, "its tree")
    service.wait_for_output(command, b"problem")
    service.kill_keeper()
    assert len(processes_with(mark)) == 4
    service.start()
    final = service.wait(command)
    assert final["status"] == "lost"
    assert "keeper died" in final["reason"]
    assert "incomplete" in final["reason"]
    assert (final["exit_code"], final["signal"]) == (None, None)
    assert sorted(service.bytes_of(command).splitlines()) == [b"problem", b"started"]
    assert processes_with(mark) == []
    assert processes_with(command) == []
    later = service.wait(queued)
    assert later["status"] == "succeeded"
    assert service.bytes_of(queued) == b"later\n"
    runs = (service.data_dir / "work" / "runs").read_text().split()
    assert runs == [command, queued]
    cgroups.add(cgroup_of(keeper_of(service).pid))
    service.stop()
    assert not cgroups & directories_of_cgroups()


@ON_SQLITE
def test_output_is_kept_as_a_prefix(service: Service) -> None:
    command = service.submit("i=0; while :; do i=$((i+1)); echo line $i; done")["id"]
    service.wait_for_output(command, b"line 20000\n")
    service.kill_keeper()
    service.start()
    final = service.wait(command)
    assert final["status"] == "lost"
    kept = service.bytes_of(command)
    lines = kept.split(b"\n")
    assert len(lines) > 20000
    assert kept == b"".join(b"line %d\n" % i for i in range(1, len(lines) + 1))[: len(kept)]
    assert final["output"]["bytes"] == len(kept)


def test_unread_bytes_in_pipes_are_rescued(
    make_service: Callable[..., Service], flags: tuple[str, ...]
) -> None:
    """The keeper is suspended first, so that the output stays in the pipes."""
    service = make_service(*flags).start()
    keeper = service.process
    assert keeper is not None
    command = service.submit(
        """echo first; while [ ! -e go ]; do sleep 0.02; done
        seq 5000; echo end >&2; : > printed; sleep 3600"""
    )["id"]
    service.wait_for_output(command, b"first")
    os.kill(keeper.pid, signal.SIGSTOP)
    (service.data_dir / "work" / "go").touch()
    eventually((service.data_dir / "work" / "printed").exists, "all to be printed")
    service.kill_keeper()
    service.start()
    assert service.wait(command)["status"] == "lost"
    expected = b"first\n" + b"".join(b"%d\n" % i for i in range(1, 5001))
    assert service.bytes_of(command, stream="stdout") == expected
    assert service.bytes_of(command, stream="stderr") == b"end\n"
    assert processes_with(command) == []


def test_a_recorded_exit_decides_the_status(
    make_service: Callable[..., Service], flags: tuple[str, ...]
) -> None:
    service = make_service(*flags).start()
    mark = unique_seconds()
    ends = {
        service.submit(f"echo out; sleep {mark} & exit {code}", leftover_seconds=3600)["id"]: code
        for code in (0, 9)
    }
    for command in ends:
        eventually(lambda: service.get(command)["exited_at"], "its exit on record")  # noqa: B023
    service.kill_keeper()
    assert len(processes_with(mark)) == 2
    service.start()
    for command, code in ends.items():
        final = service.wait(command)
        assert final["status"] == ("failed" if code else "succeeded")
        assert final["exit_code"] == code
        assert "incomplete" in final["reason"]
        assert service.bytes_of(command) == b"out\n"
    assert processes_with(mark) == []


def test_keeper_and_server_killed_at_once(service: Service) -> None:
    mark = unique_seconds()
    written = service.data_dir / "work" / f"runs-{mark}"
    commands = [
        service.submit(f"echo $SCRIPTSERVICE_COMMAND_ID >> {written}; sleep {mark}")["id"]
        for _ in range(10)
    ]
    eventually(lambda: len(processes_with(mark)) == 10, "all to run")
    service.kill_both()
    service.start()
    for command in commands:
        assert service.wait(command)["status"] == "lost"
    assert processes_with(mark) == []
    assert sorted(written.read_text().split()) == sorted(commands)
    assert service.run("echo on")["status"] == "succeeded"


@ON_SQLITE
def test_nothing_is_run_twice_however_often_it_dies(make_service: Callable[..., Service]) -> None:
    service = make_service("--max-running", "8").start()
    submitted = [
        service.submit("echo $SCRIPTSERVICE_COMMAND_ID >> runs; sleep 0.05")["id"]
        for _ in range(120)
    ]
    for delay in (0.1, 0.25, 0.4):
        moment = time.monotonic() + delay
        eventually(lambda: time.monotonic() > moment, "a moment")  # noqa: B023
        service.kill_keeper()
        service.start()
    finals = {command: service.wait(command)["status"] for command in submitted}
    runs = (service.data_dir / "work" / "runs").read_text().split()
    assert len(runs) == len(set(runs))
    assert set(finals.values()) <= {"succeeded", "lost"}
    assert {command for command, status in finals.items() if status == "succeeded"} <= set(runs)
    assert list(finals.values()).count("succeeded") > 60


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """An unrelated process that leads a session of its own."""
    process = subprocess.Popen(["sleep", unique_seconds()], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_process_that_got_a_reused_id_is_not_touched(
    make_service: Callable[..., Service], bystander: subprocess.Popen[bytes]
) -> None:
    service = make_service("--no-use-cgroups").start()
    command = service.submit("read -r < <(sleep 3600)")["id"]

    def named(name: str) -> list[psutil.Process]:
        return [each for each in processes_with(command) if name in each.cmdline()[0]]

    eventually(lambda: named("sleep"), "its last process")
    script = min(named("bash"), key=lambda each: (each.create_time(), each.pid))
    service.kill_keeper()
    for process in processes_with(command):
        process.kill()
    psutil.wait_procs([script], PATIENCE_SECONDS)
    journal = service.data_dir / "journal"
    (segment,) = journal.glob("*.journal")
    stat = process_stat(bystander.pid)
    assert stat is not None
    # As if the bystander had got the script's process id after its end: same id, other start time.
    writer = JournalWriter(str(journal), reserve_bytes=0, snapshot=dict)
    fields = {
        "pid": bystander.pid,
        "start_ticks": stat.start_ticks - 1,
        "pipes": [0, 0],
    }
    writer.append(Kind.STARTED, bytes.fromhex(command.replace("-", "")), fields, 0, now_us())
    writer.close()
    assert segment.exists()
    assert boot_id()
    service.start()
    assert service.wait(command)["status"] == "lost"
    assert bystander.poll() is None


def test_a_second_keeper_is_refused_while_the_first_lives(service: Service) -> None:
    command = service.submit("sleep 3600")["id"]
    service.wait_for(command, "running")
    second = Service(service.data_dir).start(wait=False)
    assert second.process is not None
    assert second.process.wait(PATIENCE_SECONDS) == 1
    assert "serves it already" in second.output()
    second.log.close()
    assert service.get(command)["status"] == "running"


def test_output_dropped_at_its_limit_leaves_no_gap(
    service: Service,
) -> None:
    """Bytes in the pipe do not follow the stored output then, and are not added to it."""
    trial = Trial(service)
    sent = trial.submit(endless(1 << 20))
    command = str(sent.id)
    eventually(lambda: service.get(command)["output"]["discarded_bytes"], "some to be dropped")
    service.kill_keeper()
    service.start()
    trial.verify(keeper_died=True)
    assert service.get(command)["output"]["bytes"] == 1 << 20


@ON_SQLITE
@pytest.mark.parametrize("delays", [(0.0, 0.06), pytest.param((0.03, 0.1), marks=pytest.mark.long)])
def test_a_server_that_is_still_loading_does_not_block_the_next_keeper(
    service: Service, delays: tuple[float, ...]
) -> None:
    """It holds the listening socket, and does not check yet whether its keeper lives."""
    for delay in delays:
        server = service.kill_server()
        eventually(lambda server=server: service.server_pid != server, "the next server")
        until = time.monotonic() + delay
        eventually(lambda until=until: time.monotonic() >= until, "a moment")
        assert service.process is not None
        service.process.kill()
        service.process.wait()
        service.close_client()
        service.start()
    assert service.run("true")["status"] == "succeeded"
