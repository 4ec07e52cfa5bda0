"""Input and terminals in the keeper: hand-overs, dead servers, other users, and floods."""

import hashlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scriptservice.keeper.command.command_control import RESIZE_SECONDS
from scriptservice.keeper.journal.journal_repair import output_length
from scriptservice.protocol.frames import (
    MAX_INPUT_BYTES,
    PROTOCOL_VERSION,
    Frame,
    SpawnSpec,
    input_request,
    recorded_frame,
)
from scriptservice.protocol.journal_format import SEGMENT_HEADER_BYTES, Kind
from support.gates import Gate
from support.rig import Rig
from support.service import eventually

DIGEST = """import hashlib, os
digest, size = hashlib.sha256(), 0
while piece := os.read(0, 5000):
    digest.update(piece)
    size += len(piece)
print(size, digest.hexdigest())"""

_numbers = itertools.count()


@pytest.fixture
def make_rig() -> Iterator[Callable[..., Rig]]:
    """Returns a function that makes a keeper with settings."""
    made: list[Rig] = []

    def make(**settings: Any) -> Rig:
        made.append(Rig(**settings))
        made[-1].send({"type": "ready"}, {"type": "adopted"})
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    """A keeper that most of these tests share."""
    made = Rig()
    made.send({"type": "ready"}, {"type": "adopted"})
    yield made
    made.close()


def ask(rig: Rig, command: str, data: bytes | None = None, **more: Any) -> Frame:
    """Send input, or ask for its state; return the keeper's answer."""
    number = next(_numbers)
    rig.send({**input_request(command, data, **more), "number": number})
    answer = rig.receive("input")
    assert answer["number"] == number
    return answer


def accepted(answer: Frame) -> int:
    assert answer["result"] == "accepted", answer
    return int(answer["accepted_offset"])


def hand_over(rig: Rig) -> None:
    before = rig.log().count(" upgraded ")
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"}, {"type": "adopted"})
    eventually(lambda: rig.log().count(" upgraded ") > before, "the hand-over")


def output(rig: Rig, command: str) -> bytes:
    """Return the output of a command that is in the journal's first segment."""
    (path,) = (rig.data_dir / "journal").glob("*.journal")
    segment = path.read_bytes()
    parts, start = [], SEGMENT_HEADER_BYTES
    for record in rig.records():
        if record.kind == Kind.OUTPUT and record.command_id.hex() == command.replace("-", ""):
            size = output_length(record, start)
            parts.append(segment[record.end - size : record.end])
        start = record.end
    return b"".join(parts)


def wait_for_output(rig: Rig, command: str, wanted: bytes) -> None:
    eventually(lambda: wanted in output(rig, command), lambda: f"{wanted!r} in the output")


def test_waiting_input_survives_hand_overs_and_deaths_of_the_server(rig: Rig) -> None:
    gate = Gate(rig)
    text = "first " * 20_000
    script = f"{gate.wait}; exec python3 -c '{DIGEST}'"
    command = rig.spawn(script, interactive=True, stdin=text)
    rig.wait_for(command, Kind.STARTED)
    data = os.urandom(600_000)
    sent = accepted(ask(rig, command, data[:400_000], offset=0))
    hand_over(rig)
    assert accepted(ask(rig, command)) == sent
    again = ask(rig, command, data[:400_000], offset=0)
    assert (again["result"], again["accepted_offset"]) == ("offset-mismatch", sent)
    assert again["waiting_bytes"] > 400_000
    rig.end_child()
    rig.accept_child()
    rig.send({"type": "ready"}, {"type": "adopted"})
    assert accepted(ask(rig, command)) == sent
    assert accepted(ask(rig, command, data[sent:], offset=sent, close=True)) == len(data)
    full = ask(rig, command, bytes(MAX_INPUT_BYTES))
    assert full["result"] == "closed"
    hand_over(rig)
    assert ask(rig, command, b"x")["result"] == "closed"
    gate.open()
    rig.wait_for(command, Kind.CLOSED)
    everything = text.encode() + data
    wanted = f"{len(everything)} {hashlib.sha256(everything).hexdigest()}\n"
    assert output(rig, command).decode() == wanted


def test_a_terminal_survives_hand_overs(rig: Rig) -> None:
    command = rig.spawn("while read -r line; do echo got $line; done", pty=[24, 80])
    rig.wait_for(command, Kind.STARTED)
    for number in range(3):
        offset = accepted(ask(rig, command, b"%d\n" % number, offset=2 * number))
        assert offset == 2 * number + 2
        wait_for_output(rig, command, b"got %d\r\n" % number)
        hand_over(rig)
    accepted(ask(rig, command, b"", close=True))
    assert rig.wait_for(command, Kind.EXITED).fields()["status"] == 0
    assert rig.wait_for(command, Kind.CLOSED).fields()["stderr_bytes"] == 0


def test_output_that_was_read_from_a_terminal_survives_a_hand_over(
    make_rig: Callable[..., Rig],
) -> None:
    """The journal takes no output beyond the limit of what is not stored."""
    rig = make_rig(spool_limit_bytes=20_000)
    command = rig.spawn("stty raw; seq 1 20000; echo last >&2", pty=[24, 80])
    wanted = "".join(f"{number}\n" for number in range(1, 20_001)).encode() + b"last\n"
    for round_number in range(1, 3):
        eventually(
            lambda bytes_printed=20_000 * round_number: rig.output_bytes(command) > bytes_printed,
            "the limit to be reached",
        )
        hand_over(rig)
        assert rig.output_bytes(command) < len(wanted)
        rig.send(recorded_frame(rig.end()))
    eventually(
        lambda: rig.send(recorded_frame(rig.end())) or Kind.CLOSED in rig.kinds(command), "the end"
    )
    assert output(rig, command) == wanted


@pytest.mark.parametrize("use_launcher", [True, False], ids=["launcher", "fork"])
@pytest.mark.needs_root
def test_a_terminal_belongs_to_the_user_of_the_script(
    make_rig: Callable[..., Rig], use_launcher: bool
) -> None:
    rig = make_rig(use_launcher=use_launcher, run_as="59999")
    # A process that opens the terminal by its name makes it the controlling terminal of its
    # session. So does bash when it starts.
    script = "sh -c 'tty </dev/tty'; stat -c '%u %g %a' $(tty); echo named >/dev/stdout; stty size"
    command = rig.spawn(script, ["/bin/sh"], pty=[3, 7])
    rig.wait_for(command, Kind.CLOSED)
    lines = output(rig, command).decode().split("\r\n")
    assert lines == ["/dev/tty", "59999 59999 600", "named", "3 7", ""]
    piped = rig.spawn("cat /dev/stdin", interactive=True)
    eventually(lambda: ask(rig, piped)["result"] == "accepted", "the start")
    accepted(ask(rig, piped, b"by name\n", close=True))
    rig.wait_for(piped, Kind.CLOSED)
    assert output(rig, piped) == b"by name\n"


COUNTS_SIZES = """import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH, signal.SIGUSR1})
print("ready", flush=True)
count = 0
while signal.sigwait({signal.SIGWINCH, signal.SIGUSR1}) == signal.SIGWINCH:
    count += 1
print(*os.get_terminal_size(), count)"""


def resize_frame(command: str, rows: int, cols: int) -> Frame:
    return {"type": "resize", "id": command, "rows": rows, "cols": cols}


def test_a_flood_of_sizes_costs_nothing(rig: Rig) -> None:
    command = rig.spawn(COUNTS_SIZES, ["python3"], pty=[24, 80])
    wait_for_output(rig, command, b"ready")
    began = time.monotonic()
    sizes = [(1 + number % 50, 1 + number % 200) for number in range(20_000)]
    sizes += [(0, 0), (70_000, 33)]
    rig.send(*(resize_frame(command, *size) for size in sizes))
    rig.send(resize_frame("nobody", 1, 1))
    rig.send({"type": "ping", "number": 1})
    rig.receive("pong")
    hand_over(rig)
    most = 2 + (time.monotonic() - began) / RESIZE_SECONDS
    rig.send({"type": "signal", "id": command, "signal": "SIGUSR1", "number": next(_numbers)})
    assert rig.receive("signalled")["sent"]
    rig.wait_for(command, Kind.CLOSED)
    cols, rows, count = map(int, output(rig, command).split()[1:])
    assert (rows, cols) == (65535, 33)
    assert 1 <= count <= most
    plain = rig.spawn("true")
    rig.send(resize_frame(plain, 1, 1))
    rig.wait_for(plain, Kind.CLOSED)


def test_a_size_that_waits_is_applied_before_a_hand_over(make_rig: Callable[..., Rig]) -> None:
    never = "import scriptservice.keeper.command.command_control as c; c.RESIZE_SECONDS = 3600"
    rig = make_rig(injection=never)
    gate = Gate(rig)
    command = rig.spawn(f"echo ready; {gate.wait}; stty size", pty=[24, 80])
    wait_for_output(rig, command, b"ready")
    rig.send(resize_frame(command, 7, 9))
    hand_over(rig)
    gate.open()
    rig.wait_for(command, Kind.CLOSED)
    assert output(rig, command) == b"ready\r\n7 9\r\n"


def test_held_output_of_a_terminal_does_not_wait_for_more(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(spool_limit_bytes=0)  # output waits until everything before it is stored
    gate = Gate(rig)
    command = rig.spawn(f"printf prompt; {gate.wait}", pty=[24, 80])
    rig.wait_for(command, Kind.STARTED)
    eventually(
        lambda: rig.send(recorded_frame(rig.end())) or output(rig, command) == b"prompt",
        "the output of a script that prints no more",
    )
    gate.open()
    rig.wait_for(command, Kind.CLOSED)


def test_a_closed_stdin_does_not_hurt_the_keeper(rig: Rig) -> None:
    """The keeper would die of SIGPIPE if it did not ignore that signal."""
    gate = Gate(rig)
    command = rig.spawn(f"{gate.block}; exec 0</dev/null; echo closed; exec sleep 3600",
                        interactive=True)  # fmt: skip
    rig.wait_for(command, Kind.STARTED)
    accepted(ask(rig, command, bytes(MAX_INPUT_BYTES)))
    assert ask(rig, command, b"x" * 65537)["result"] == "full"
    gate.open()
    wait_for_output(rig, command, b"closed")
    closed = ask(rig, command, b"x")
    assert (closed["result"], closed["waiting_bytes"]) == ("closed", 0)
    assert rig.process.poll() is None


def test_input_for_a_terminal_that_nobody_has_open_keeps_no_processor_busy(rig: Rig) -> None:
    gate = Gate(rig)
    script = f"tty=$(tty); stty raw; echo ready; exec <&- >&- 2>&-; {gate.wait}; wc -c <$tty >$tty"
    command = rig.spawn(script, pty=[24, 80])
    wait_for_output(rig, command, b"ready")
    eventually(lambda: not _has_terminal(rig, command), "the terminal to be closed")
    accepted(ask(rig, command, bytes(200_000)))
    keeper = psutil.Process(rig.process.pid)
    used, began = sum(keeper.cpu_times()[:2]), time.monotonic()
    eventually(lambda: time.monotonic() > began + 1, "a second to pass")
    assert sum(keeper.cpu_times()[:2]) - used < 0.4
    rig.send({"type": "stop", "id": command, "signal": "SIGKILL", "grace_seconds": 0})
    gate.open()
    rig.wait_for(command, Kind.CLOSED)


def _has_terminal(rig: Rig, command: str) -> bool:
    pid = rig.wait_for(command, Kind.STARTED).fields()["pid"]
    return any("/dev/pts" in os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())


def test_input_pipes_count_as_descriptors(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    limit = 256 + 12  # four scripts without input, or three with
    resource.prlimit(rig.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    commands = [rig.spawn("cat", interactive=True) for _ in range(4)]
    for command in commands[:3]:
        rig.wait_for(command, Kind.STARTED)
    rig.send({"type": "ping", "number": 1})
    assert rig.receive("pong")["waiting"] == 1
    assert ask(rig, commands[3], b"x")["result"] == "not-running"
    accepted(ask(rig, commands[0], b"", close=True))
    rig.wait_for(commands[3], Kind.STARTED)


def test_a_server_of_an_earlier_release_may_start_scripts(rig: Rig) -> None:
    frame = SpawnSpec("018f2d3e-0000-7000-8000-000000000001", "cat", ["/bin/bash"]).to_frame()
    del frame["interactive"], frame["pty"]
    rig.send(frame)
    rig.wait_for(frame["id"], Kind.CLOSED)
