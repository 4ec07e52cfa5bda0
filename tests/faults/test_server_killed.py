"""``kill -9`` of the server loses no output, exit, time-out, stop or order of commands."""

import contextlib
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from support.gates import Gate
from support.oracle import Trial, every_kind
from support.scripts import ask_to_stop, keeper_of, unique_seconds
from support.service import ON_BOTH, PATIENCE_SECONDS, Service, eventually, processes_with
from support.upgrades import servers

KILLS, BLOCKS = 4, 60
MORE_KILLS, MORE_BLOCKS = 20, 280
LINES_A_BLOCK = 900
LINE = "{stream} {number:07d} " + "x" * 83 + "\n"

MANY_KILLS = 100
A_GIBIBYTE_OF_BLOCKS = (1 << 30) // (2 * 94 * LINES_A_BLOCK) + 1

PRINTER = f"""
import os, sys, time
def write(stream, data):
    while data:
        data = data[os.write(stream, data):]
number = 0
for block in range(int(sys.argv[1])):
    for stream in (1, 2):
        lines = range(number, number + {LINES_A_BLOCK})
        write(stream, "".join(
            f"{{stream}} {{line:07d}} " + "x" * 83 + "\\n" for line in lines).encode())
    number += {LINES_A_BLOCK}
    time.sleep(float(sys.argv[2]))
sys.exit(37)
"""


PYTHON = ["/usr/bin/python3"]


def wait_until(moment: float) -> None:
    eventually(lambda: time.monotonic() >= moment, "a moment")


def kill_server_if_there(service: Service) -> None:
    """Kill the server if there is one; the keeper may be about to start the next."""
    for pid in servers(service):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("kills", "blocks"),
    [(KILLS, BLOCKS), pytest.param(MORE_KILLS, MORE_BLOCKS, marks=pytest.mark.long)],
)
def test_no_byte_and_no_exit_is_lost_however_often_it_dies(
    service: Service, kills: int, blocks: int
) -> None:
    command = service.submit(PRINTER, interpreter=PYTHON, args=[str(blocks), "0.1"])["id"]
    chance = random.Random(20)
    for _ in range(kills):
        wait_until(time.monotonic() + chance.uniform(0.05, 2.2))
        kill_server_if_there(service)
    final = service.wait(command)
    assert (final["status"], final["exit_code"]) == ("failed", 37)
    assert final["reason"] == "it exited with code 37"
    for stream, number in (("stdout", 1), ("stderr", 2)):
        expected = "".join(
            LINE.format(stream=number, number=line) for line in range(blocks * LINES_A_BLOCK)
        ).encode()
        received = service.bytes_of(command, stream=stream)
        assert len(received) == len(expected)
        assert received == expected
    merged = service.bytes_of(command)
    assert len(merged) == final["output"]["bytes"] == blocks * LINES_A_BLOCK * 94 * 2


@pytest.mark.long
def test_a_hundred_kills_in_a_gibibyte(make_service: Callable[..., Service]) -> None:
    """Meanwhile other scripts start, exit, time out and are stopped."""
    service = make_service().start()
    trial = Trial(service)
    blocks = A_GIBIBYTE_OF_BLOCKS
    command = service.submit(PRINTER, interpreter=PYTHON, args=[str(blocks), "0.03"])["id"]
    chance = random.Random(100)
    for number in range(MANY_KILLS):
        if number % 10 == 0:
            trial.submit_all(every_kind(), retry=False)
        trial.stop_started()
        wait_until(time.monotonic() + chance.uniform(0.05, 2.2))
        kill_server_if_there(service)
        service.close_client()
    final = service.wait(command, 300)
    assert (final["status"], final["exit_code"]) == ("failed", 37)
    for stream, number in (("stdout", 1), ("stderr", 2)):
        expected, received = hashlib.sha256(), hashlib.sha256()
        for block in range(blocks):
            lines = range(block * LINES_A_BLOCK, (block + 1) * LINES_A_BLOCK)
            text = "".join(LINE.format(stream=number, number=line) for line in lines)
            expected.update(text.encode())
        path, query = f"/v1/commands/{command}/output", {"stream": stream}
        with service.client.stream("GET", path, params=query) as response:
            for part in response.iter_raw():
                received.update(part)
        assert received.digest() == expected.digest()
    assert final["output"]["bytes"] == blocks * LINES_A_BLOCK * 94 * 2
    trial.verify()


def test_a_time_out_happens_while_the_server_is_stopped(service: Service) -> None:
    mark = unique_seconds()
    command = service.submit(
        f"trap '' TERM; setsid sleep {mark} & sleep {mark}", timeout_seconds=2, grace_seconds=0.3
    )["id"]
    eventually(lambda: service.get(command)["started_at"], "it to start")
    server = service.server_pid
    os.kill(server, signal.SIGSTOP)
    eventually(lambda: not processes_with(command), "its end")
    assert processes_with(mark) == []
    os.kill(server, signal.SIGKILL)
    assert service.wait(command)["status"] == "timed_out"


@ON_BOTH
def test_an_accepted_stop_survives_a_server_kill(service: Service) -> None:
    mark = unique_seconds()
    for _ in range(2):
        command = service.submit(f"trap '' TERM; echo ready; sleep {mark}; sleep {mark}")["id"]
        service.wait_for_output(command, b"ready")
        ask_to_stop(service, command, grace_seconds=0.2)
        service.kill_server()
        final = service.wait(command)
        assert final["status"] == "stopped"
        assert processes_with(mark) == []


def test_an_exit_while_the_server_is_down_is_reported_truly(
    service: Service,
) -> None:
    gate = Gate(service)
    commands = [service.submit(f"{gate.block}; echo {code}; exit {code}") for code in range(1, 9)]
    for command in commands:
        service.wait_for(command["id"], "running")
    os.kill(service.server_pid, signal.SIGSTOP)
    gate.open()
    keeper = keeper_of(service)
    eventually(lambda: len(keeper.children()) == 1, "the scripts' ends")
    service.kill_server()
    for code, command in enumerate(commands, start=1):
        final = service.wait(command["id"])
        assert (final["status"], final["exit_code"]) == ("failed", code)
        assert service.bytes_of(command["id"]) == b"%d\n" % code


def test_new_connections_wait_for_the_next_server(service: Service) -> None:
    for _ in range(3):
        killed = service.kill_server()
        with httpx.Client(
            base_url=service.url, headers=service.headers, timeout=PATIENCE_SECONDS, verify=False
        ) as client:
            eventually(lambda: answer(client), "the next server")
        assert service.server_pid != killed


def answer(client: httpx.Client) -> bool:
    """Send a request; return False if the dying server had accepted its connection."""
    try:
        response = client.get("/v1/commands")
    except httpx.TransportError:
        return False
    assert response.status_code == 200
    return True


def test_a_server_that_keeps_dying_is_restarted_with_delays(
    make_service: Callable[..., Service],
) -> None:
    service = make_service().start()
    began = time.monotonic()
    for _ in range(6):
        killed = service.kill_server()
        # The dead server is a process until it is reaped, and must not be taken for the next.
        eventually(lambda killed=killed: service.server_pid != killed, "the next one")
    # 0, 0.1, 0.2, 0.5, 1 and 2 seconds, less what each start takes.
    assert time.monotonic() - began > 1.5
    assert service.run("echo on")["status"] == "succeeded"


@ON_BOTH
@pytest.mark.parametrize(
    "flags", [("--max-running", "20"), pytest.param((), marks=pytest.mark.long)]
)
def test_nothing_runs_twice_or_never(
    make_service: Callable[..., Service], flags: tuple[str, ...]
) -> None:
    service = make_service(*flags).start()
    script = "echo $SCRIPTSERVICE_COMMAND_ID >> runs"

    def submit(_: int) -> str | None:
        try:
            return str(service.submit(script)["id"])
        except httpx.TransportError:
            return None  # the server died, so the command may or may not be stored

    assert service.client.get("/healthz").status_code == 200  # the threads share this client
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(submit, range(300))
        for _ in range(3):
            wait_until(time.monotonic() + 0.35)
            service.kill_server()
        accepted = {answer for answer in answers if answer}

    def unfinished() -> int:
        try:
            found = service.client.get("/v1/commands", params={"limit": 1000})
        except httpx.TransportError:
            return -1
        if found.status_code == 503:
            return -1
        return sum(item["status"] != "succeeded" for item in found.json()["items"])

    eventually(lambda: unfinished() == 0, "all to succeed")
    stored = service.client.get("/v1/commands", params={"limit": 1000}).json()["items"]
    runs = (service.data_dir / "work" / "runs").read_text().split()
    assert len(runs) == len(set(runs))
    assert set(runs) == {item["id"] for item in stored}
    assert accepted <= set(runs)
