"""Whatever the child sends or fails to send, the keeper continues and runs a command once."""

import contextlib
import struct
import threading
from collections.abc import Iterator

import psutil
import pytest

from scriptservice.keeper.command.output_pipes import WINDOW_BYTES
from scriptservice.protocol.frames import SpawnSpec, encode, recorded_frame, stop_frame
from scriptservice.protocol.journal_format import Kind
from support.gates import Gate
from support.rig import Rig, words_in
from support.service import eventually
from support.upgrades import descriptors


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    try:
        yield made
    finally:
        made.close()


def test_an_id_that_is_sent_again_runs_once(rig: Rig) -> None:
    runs = rig.data_dir / "work" / "runs"
    command = rig.spawn("echo run >> runs; sleep 0.2")
    again = SpawnSpec(command, "echo run >> runs", ["/bin/bash"]).to_frame()
    rig.send(again, again)
    rig.wait_for(command, Kind.CLOSED)
    rig.send(again)
    last = rig.spawn("true")
    rig.wait_for(last, Kind.CLOSED)
    assert words_in(runs) == ["run"]
    assert rig.kinds(command).count(Kind.STARTING) == 1


def test_an_id_is_remembered_until_the_child_has_adopted(rig: Rig) -> None:
    """A new child may have read the database before the latest records were stored."""
    runs = rig.data_dir / "work" / "runs"
    command = rig.spawn("echo run >> runs")
    again = SpawnSpec(command, "echo run >> runs", ["/bin/bash"]).to_frame()
    rig.wait_for(command, Kind.CLOSED)
    rig.end_child()
    rig.accept_child()
    rig.send(recorded_frame(rig.end()), again)
    rig.wait_for(rig.spawn("true"), Kind.CLOSED)
    assert words_in(runs) == ["run"]
    rig.send({"type": "adopted"})
    rig.wait_for(rig.spawn("true"), Kind.CLOSED)
    assert words_in(runs) == ["run"]


GARBAGE = {
    "no json": struct.pack("<I", 4) + b"abcd",
    "no object": struct.pack("<I", 2) + b"[]",
    "no frame": struct.pack("<I", 2) + b"{}",
    "a number": struct.pack("<I", 1) + b"7",
    "too long": struct.pack("<I", 1 << 31) + b"x" * 100,
    "no utf-8": struct.pack("<I", 3) + b'"\xff"',
    "empty spawn": encode({"type": "spawn", "id": "x"}),
    "no uuid": encode(SpawnSpec("no uuid", "true", ["/bin/bash"]).to_frame()),
    "bad position": encode({"type": "recorded", "position": "far"}),
    "bad ping": encode({"type": "ping"}),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_child_that_sends_garbage_is_replaced(rig: Rig, name: str) -> None:
    gate = Gate(rig)
    command = rig.spawn(f"{gate.block}; echo end; exit 3")
    rig.wait_for(command, Kind.STARTED)
    rig.socket.sendall(GARBAGE[name])
    rig.accept_child()
    gate.open()
    rig.wait_for(command, Kind.CLOSED)
    assert rig.wait_for(command, Kind.EXITED).fields()["status"] == 3 << 8
    assert rig.output_bytes(command) == 4
    assert rig.process.poll() is None


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "unheard of"},
        {"type": "recorded", "position": 1 << 60},
        stop_frame("00000000-0000-0000-0000-000000000001", "SIGTERM", 1),
        stop_frame("nobody", "SIGTERM", 1),
    ],
)
def test_a_frame_without_meaning_has_no_effect(rig: Rig, frame: dict[str, object]) -> None:
    rig.send(frame)
    rig.send({"type": "ping", "number": 1})
    assert rig.receive("pong")["running"] == 0
    assert rig.process.poll() is None


@pytest.mark.parametrize(
    "fields",
    [
        {"args": ["nul \0 in it"]},
        {"env": {"NAME": "nul \0 in it"}},
        {"working_directory": "nul \0 in it"},
    ],
)
def test_arguments_that_no_process_can_get_fail_that_command_only(
    rig: Rig, fields: dict[str, object]
) -> None:
    command = rig.spawn("true", **fields)
    refused = rig.wait_for(command, Kind.REFUSED).fields()
    assert refused["retry"] is False
    rig.wait_for(rig.spawn("true"), Kind.CLOSED)


def test_half_a_frame_is_dropped_with_its_child(rig: Rig) -> None:
    half = encode(SpawnSpec("0" * 32, "echo run >> runs", ["/bin/bash"]).to_frame())
    rig.socket.sendall(half[: len(half) // 2])
    rig.end_child()
    rig.accept_child()
    rig.wait_for(rig.spawn("true"), Kind.CLOSED)
    assert words_in(rig.data_dir / "work" / "runs") == []


def test_frames_of_a_dead_child_count(rig: Rig) -> None:
    command = rig.spawn("sleep 3600")
    rig.wait_for(command, Kind.STARTED)
    rig.send(stop_frame(command, "SIGTERM", 3600))
    rig.end_child()
    assert rig.wait_for(command, Kind.STOPPING).fields()["cause"] == "stop"
    rig.wait_for(command, Kind.CLOSED)
    rig.accept_child()


def test_a_socket_that_outlives_its_child_delays_nothing(rig: Rig) -> None:
    gate = Gate(rig)
    command = rig.spawn(f"{gate.block}; exit 4")
    held = rig.end_child_but_keep_socket()
    rig.accept_child()
    gate.open()
    assert rig.wait_for(command, Kind.EXITED).fields()["status"] == 4 << 8
    held.close()


def test_a_child_that_does_not_read_delays_nothing(rig: Rig) -> None:
    commands = [rig.spawn("echo out; exit 0") for _ in range(50)]
    rig.send(*({"type": "ping", "number": number} for number in range(30_000)))
    for command in commands:
        rig.wait_for(command, Kind.CLOSED)


PRINTS_UNTIL_IT_IS_HELD_BACK = """exec python3 -c '
import os, time
os.set_blocking(1, False)
written, said = 0, None
while not os.path.exists("go"):
    try:
        written += os.write(1, bytes(4096))
    except BlockingIOError:
        if said != written:
            with open("written.new", "w") as file:
                file.write(str(written))
            os.rename("written.new", "written")
            said = written
        time.sleep(0.001)
os.write(2, bytes(1000))
'"""


@contextlib.contextmanager
def stuck_recorder(rig: Rig) -> Iterator[None]:
    """Report again and again that the journal is stored up to the same position."""
    enough = threading.Event()

    def report() -> None:
        while not enough.wait(0.1):
            rig.send(recorded_frame(0))

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def test_two_streams_that_waited_for_recording_end_together(rig: Rig) -> None:
    """The first one that resumes ends the command, and with it the wait of the other."""
    file = rig.data_dir / "work" / "written"

    def held_back() -> bool:
        """Return whether the pipe is full and stays so, while the keeper does other things."""
        # If the pipe is full whenever the keeper reads it, this is exactly two windows.
        if not words_in(file) or rig.output_bytes(command) < 2 * WINDOW_BYTES:
            return False
        before = rig.output_bytes(command)
        for number in range(3):
            rig.send({"type": "ping", "number": number})
            rig.receive("pong")
        written = int(*words_in(file))
        return before == rig.output_bytes(command) < written

    rig.send(recorded_frame(0))
    with stuck_recorder(rig):
        command = rig.spawn(PRINTS_UNTIL_IT_IS_HELD_BACK)
        eventually(held_back, "it to be held back")
        (file.parent / "go").touch()
        rig.wait_for(command, Kind.EXITED)
        assert Kind.CLOSED not in rig.kinds(command)
    rig.send(recorded_frame(rig.end()))
    closed = rig.wait_for(command, Kind.CLOSED).fields()
    (written,) = words_in(file)
    assert (closed["stdout_bytes"], closed["stderr_bytes"]) == (int(written), 1000)
    assert int(written) > 2 * WINDOW_BYTES
    rig.send({"type": "ping", "number": 1})
    assert rig.receive("pong")["running"] == 0
    assert "cannot understand" not in rig.log()


def test_a_recorder_that_falls_silent_stops_no_script(rig: Rig) -> None:
    rig.send(recorded_frame(0))
    command = rig.spawn("head -c 30000000 /dev/zero")
    rig.wait_for(command, Kind.CLOSED)
    assert rig.output_bytes(command) == 30_000_000


def test_a_segment_is_dropped_once_it_is_stored(rig: Rig) -> None:
    first = rig.spawn("head -c 20000000 /dev/zero")
    running = rig.spawn("echo ready; sleep 3600")
    rig.wait_for(first, Kind.CLOSED)
    rig.wait_for(running, Kind.OUTPUT)
    rig.send(recorded_frame(rig.end()))

    def held_bytes() -> int:
        return sum(each.stat().st_size for each in (rig.data_dir / "journal").iterdir())

    eventually(lambda: held_bytes() < 10_000, "the old one to be gone")
    (snapshot,) = (each for each in rig.records() if each.kind == Kind.SNAPSHOT)
    (opened,) = snapshot.fields()["open"]
    assert (opened["id"], opened["position"]) == (running, 6)


def test_no_descriptor_or_process_is_left(rig: Rig) -> None:
    keeper = psutil.Process(rig.process.pid)
    base = descriptors(keeper.pid)
    for number in range(60):
        fields = {"working_directory": "/no/such"} if number % 3 == 0 else {}
        rig.spawn("echo out; (sleep 0.05 &) ; exit 1", **fields)
    rig.spawn("true", working_directory="private")

    def idle() -> bool:
        rig.send({"type": "ping", "number": 1})
        return bool(rig.receive("pong")["running"] == 0)

    eventually(idle, "all to end")
    eventually(lambda: descriptors(keeper.pid) == base, "descriptors to be closed")
    eventually(lambda: len(keeper.children(recursive=True)) == 1, "only the child to be left")
