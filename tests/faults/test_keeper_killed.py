"""After ``kill -9`` of the keeper, running commands are lost and no process survives."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from scriptservice.keeper.journal.journal_writer import JournalWriter
from scriptservice.keeper.system.linux import boot_id, process_stat
from scriptservice.protocol.clock import now_us
from scriptservice.protocol.fault_points import VARIABLE, arm
from scriptservice.protocol.journal_format import Kind
from support.disks import fill, small_disk
from support.gates import Gate
from support.oracle import Trial, endless
from support.scripts import cgroup_of, keeper_of, unique_seconds
from support.service import (
    ON_SQLITE,
    PATIENCE_SECONDS,
    Service,
    eventually,
    new_directory,
    processes_with,
)

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


SOFT_LIMIT = 320
SURVIVORS = 170  # The keeper needs two descriptors for each.


def with_limits(soft: int, hard: int) -> tuple[str, ...]:
    """Return a command prefix that limits the descriptors of the service."""
    return ("prlimit", f"--nofile={soft}:{hard}", "--")


@ON_SQLITE
@pytest.mark.parametrize("hard_limit", [4096, SOFT_LIMIT], ids=["raised", "in-batches"])
def test_more_survivors_than_descriptors(
    make_service: Callable[..., Service], flags: tuple[str, ...], hard_limit: int
) -> None:
    service = make_service(*flags, under=with_limits(SOFT_LIMIT, 4096)).start()
    gate = Gate(service)
    script = f"echo first; {gate.block}; echo rescued; echo x > printed-$SCRIPTSERVICE_COMMAND_ID"
    commands = [service.submit(f"{script}; exec sleep 3600")["id"] for _ in range(SURVIVORS)]
    for command in commands:
        service.wait_for_output(command, b"first\n")
    keeper = keeper_of(service)
    keeper.suspend()
    gate.open()
    work = service.data_dir / "work"
    eventually(lambda: len(list(work.glob("printed-*"))) == SURVIVORS, "all to be printed")
    service.kill_keeper()
    service.under = with_limits(SOFT_LIMIT, hard_limit)
    service.start()
    for command in commands:
        assert service.wait(command)["status"] == "lost"
        assert service.bytes_of(command) == b"first\nrescued\n"
    assert processes_with(commands[0]) == []
    assert not any(processes_with(command) for command in commands[::40])
    limits = service.run("ulimit -Sn; ulimit -Hn")
    assert service.bytes_of(limits["id"]).split() == [b"%d" % SOFT_LIMIT, b"%d" % hard_limit]


def is_stopped(pid: int) -> bool:
    stat = process_stat(pid)
    return stat is not None and stat.state == "T"


@ON_SQLITE
def test_a_recovery_that_shall_end_ends_and_loses_nothing(
    make_service: Callable[..., Service],
) -> None:
    faults = new_directory()
    service = make_service(environment={VARIABLE: str(faults)}).start()
    mark = unique_seconds()
    gate = Gate(service)
    command = service.submit(f"echo first; {gate.block}; echo last; touch printed; sleep {mark}")
    service.wait_for_output(command["id"], b"first\n")
    keeper_of(service).suspend()
    gate.open()
    eventually((service.data_dir / "work" / "printed").exists, "all to be printed")
    service.kill_keeper()
    arm(str(faults), "recovery.read", "stop")
    process = service.start(wait=False).process
    assert process is not None
    eventually(lambda: is_stopped(process.pid), "the recovery")
    own = cgroup_of(process.pid)
    process.terminate()
    process.send_signal(signal.SIGCONT)
    assert process.wait(PATIENCE_SECONDS) == 0
    assert own not in directories_of_cgroups()
    assert processes_with(mark) != []
    service.start()
    assert service.wait(command["id"])["status"] == "lost"
    assert service.bytes_of(command["id"]) == b"first\nlast\n"
    assert processes_with(mark) == []
    shutil.rmtree(faults)


@pytest.mark.needs_mounts
def test_a_recovery_as_first_process_of_a_container_ends() -> None:
    """The kernel ignores a signal to such a process unless the process has a handler."""
    directory = new_directory()
    mark = unique_seconds()
    with small_disk(directory / "disk") as disk:
        service = Service(disk / "data", "--min-free-bytes", "0").start()
        try:
            for _ in range(60):
                service.submit(f"exec sleep {mark}", leftover_seconds=0)
            eventually(lambda: running_commands(service) == 60, "all to run")
            service.kill_keeper()
            ballast = fill(disk)
            service.under = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
            process = service.start(wait=False).process
            assert process is not None
            eventually(lambda: "no_room" in service.output(), "a recovery that waits")
            (keeper,) = psutil.Process(process.pid).children()
            keeper.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0
            ballast.unlink()
            service.under = ()
            service.start()
            assert running_commands(service) == 0
        finally:
            service.close()
            # The keeper in the container could not see the processes outside of it.
            for process in processes_with(mark):
                process.kill()
    shutil.rmtree(directory, ignore_errors=True)


def running_commands(service: Service) -> int:
    query = {"status": "running", "limit": 1000}
    return len(service.client.get("/v1/commands", params=query).json()["items"])


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
