"""The keeper executes its next program: process, children, output and time-outs stay the same."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from scriptservice.keeper.upgrade import handover
from scriptservice.keeper.upgrade.handover import (
    HandoverError,
    check_state,
    decode_state,
    encode_state,
)
from scriptservice.protocol.frames import PROTOCOL_VERSION, SpawnSpec, encode
from scriptservice.protocol.journal_format import Kind
from scriptservice.server.startup.server_config import ServerConfig
from support.gates import Gate
from support.handovers import HANDOVERS, complete_state
from support.rig import Rig, words_in
from support.service import eventually


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    made.send({"type": "ready"}, {"type": "adopted"})
    yield made
    made.close()


def upgrade_until_hand_over(rig: Rig) -> None:
    """Upgrade up to the check of the keeper's next program; the hand-over follows by itself."""
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"}, {"type": "adopted"})


def command_line(rig: Rig) -> list[str]:
    return psutil.Process(rig.process.pid).cmdline()


def hand_over(rig: Rig) -> None:
    before = rig.log().count(" upgraded ")
    upgrade_until_hand_over(rig)
    eventually(lambda: rig.log().count(" upgraded ") > before, "the hand-over")
    assert "--handover-fd" in command_line(rig)


TIMER_SECONDS = 5.0


def test_a_command_in_every_state_survives_ten_hand_overs(rig: Rig) -> None:
    gate = Gate(rig)
    printer = rig.spawn(
        f"""i=0; while {gate.closed} || [ $i -lt 400 ]; do
            i=$((i+1)); echo $i; echo e$i >&2; sleep 0.01
        done; echo $i >printed; exit 3"""
    )
    late = rig.spawn("sleep 3600", timeout_seconds=TIMER_SECONDS, grace_seconds=3600)
    ignorant = rig.spawn("trap '' TERM; echo up; while :; do sleep 0.1; done")
    leaver = rig.spawn("sleep 3600 & echo up", leftover_seconds=TIMER_SECONDS)
    limited = rig.spawn(f"yes | head -c 100000; {gate.wait}; echo x", output_limit_bytes=1000)
    private = rig.spawn(f"mkdir -p a/b; {gate.wait}", working_directory="private")
    for command in (printer, late, ignorant, leaver, limited, private):
        rig.wait_for(command, Kind.STARTED)
    rig.wait_for(ignorant, Kind.OUTPUT)
    rig.send({"type": "stop", "id": ignorant, "signal": "SIGTERM", "grace_seconds": TIMER_SECONDS})
    rig.wait_for(leaver, Kind.EXITED)
    rig.wait_for(ignorant, Kind.STOPPING)

    pid, hello, began = rig.process.pid, rig.hello, time.monotonic()
    for _ in range(10):
        hand_over(rig)
        assert rig.hello["identity"] == hello["identity"]
        assert rig.hello["journal"] == hello["journal"]
    assert rig.process.pid == pid
    # A timer that each hand-over set anew would be late by the time that all of them took.
    latest_seconds = TIMER_SECONDS + (time.monotonic() - began) / 2

    assert rig.wait_for(late, Kind.STOPPING).fields()["cause"] == "timeout"
    for command, first, then in (
        (late, Kind.STARTED, Kind.STOPPING),
        (ignorant, Kind.STOPPING, Kind.EXITED),
        (leaver, Kind.EXITED, Kind.CLOSED),
    ):
        took_us = rig.wait_for(command, then).time_us - rig.wait_for(command, first).time_us
        assert TIMER_SECONDS - 0.1 < took_us / 1e6 < latest_seconds, (command, first)
    status = rig.wait_for(ignorant, Kind.EXITED).fields()["status"]
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert rig.wait_for(leaver, Kind.CLOSED).fields()["leftovers_killed"] >= 1
    gate.open()
    closed = rig.wait_for(limited, Kind.CLOSED).fields()
    assert (closed["stdout_bytes"], closed["discarded_bytes"]) == (1000, 99002)
    rig.wait_for(private, Kind.CLOSED)
    assert list((rig.data_dir / "private").iterdir()) == []
    closed = rig.wait_for(printer, Kind.CLOSED).fields()
    lines = int((rig.data_dir / "work" / "printed").read_text())
    wanted = sum(len(f"{n}\n") for n in range(1, lines + 1))
    assert (closed["stdout_bytes"], closed["stderr_bytes"]) == (wanted, wanted + lines)
    assert os.waitstatus_to_exitcode(rig.wait_for(printer, Kind.EXITED).fields()["status"]) == 3
    ids = {printer, late, ignorant, leaver, limited, private}
    for command in ids:
        assert rig.kinds(command).count(Kind.CLOSED) == 1
        assert rig.kinds(command).count(Kind.STARTED) == 1


def test_a_frame_half_received_is_completed_afterwards(rig: Rig) -> None:
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    spec = SpawnSpec("018f2d3e-0000-7000-8000-000000000001", "echo half", ["/bin/bash"])
    frame = encode(spec.to_frame())
    rig.socket.sendall(encode({"type": "ready"}) + frame[:37])
    eventually(lambda: " upgraded " in rig.log(), "the hand-over")
    rig.socket.sendall(frame[37:])
    rig.wait_for(spec.id, Kind.CLOSED)


def test_an_ended_command_is_not_run_again_after_a_hand_over(rig: Rig) -> None:
    command = rig.spawn("echo once")
    rig.wait_for(command, Kind.CLOSED)
    upgrade_until_hand_over(rig)
    eventually(lambda: " upgraded " in rig.log(), "the hand-over")
    rig.send(SpawnSpec(command, "echo once", ["/bin/bash"]).to_frame())
    after = rig.spawn("echo other")
    rig.wait_for(after, Kind.CLOSED)
    assert rig.kinds(command).count(Kind.STARTED) == 1
    assert "command_sent_twice" in rig.log()


ROOM_FOR_ONE = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (259, 259))
"""
"""Leaves descriptors for one running script, see `Spawner.capacity`."""


def test_a_command_that_waits_for_its_start_keeps_its_limits() -> None:
    rig = Rig(injection=ROOM_FOR_ONE)
    try:
        rig.send({"type": "ready"}, {"type": "adopted"})
        gate = Gate(rig)
        rig.wait_for(rig.spawn(gate.wait), Kind.STARTED)
        limits = {"cpu_seconds": 7, "open_files": 100, "nice": 5}
        waiting = rig.spawn("{ nice; ulimit -t; ulimit -n; } >limits", limits=limits)
        hand_over(rig)
        assert rig.records(waiting) == []
        gate.open()
        rig.wait_for(waiting, Kind.CLOSED)
        nice = min(19, os.nice(0) + 5)
        assert words_in(rig.data_dir / "work" / "limits") == [str(nice), "7", "100"]
    finally:
        rig.close()


def test_signals_during_an_upgrade_are_not_lost(rig: Rig) -> None:
    """Any number of SIGHUP requests one more upgrade, and SIGTERM shuts down in order."""
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    for _ in range(5):
        rig.process.send_signal(signal.SIGHUP)
    rig.send({"type": "ready"})
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"})
    eventually(lambda: rig.log().count(" upgraded ") == 2, "two hand-overs")
    sleeper = rig.spawn("trap 'exit 9' TERM; while :; do sleep 0.02; done")
    rig.wait_for(sleeper, Kind.STARTED)
    rig.process.send_signal(signal.SIGHUP)
    rig.upgrade_child(PROTOCOL_VERSION)
    rig.send({"type": "ready"})
    eventually(lambda: "the new keeper loads" in rig.log().split(" upgraded ")[2], "the check")
    rig.process.terminate()
    exited = rig.wait_for(sleeper, Kind.EXITED)
    assert os.waitstatus_to_exitcode(exited.fields()["status"]) == 9
    rig.receive("finish")
    rig.end_child()


def test_an_exec_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Runs in a process of its own: an exec that succeeds would end the tests."""
    program = """
import os, sys
from scriptservice.keeper.upgrade.handover import exec_next_program
from support.handovers import complete_state
from dataclasses import replace
kept, memory = os.open("/dev/null", os.O_RDONLY), os.memfd_create("x")
state = complete_state()
plain = replace(state, lock=kept, listener=None, commands=[],
    spawner=replace(state.spawner, work=kept), child=replace(state.child, life=None))
os.dup2(kept, 63, inheritable=False)
sys.executable = "/nowhere/python"
try:
    exec_next_program(memory, plain)
except FileNotFoundError:
    print([os.get_inheritable(each) for each in (kept, memory, 63)])
"""
    tests = str(Path(__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": tests},
        cwd=tmp_path,
    )
    assert result.stdout == b"[False, False, False]\n"


# The format


@pytest.mark.parametrize("path", sorted(HANDOVERS.glob("*.json")), ids=lambda path: path.name)
def test_the_hand_over_of_every_release_is_accepted(path: Path) -> None:
    state = decode_state(path.read_bytes())
    check_state(state)
    assert state.commands
    assert decode_state(encode_state(state)) == state
    ServerConfig(**state.config["child_config"])


def test_this_release_has_its_file() -> None:
    """``python -m support.handovers`` writes it; an old one is never changed."""
    names = [path.name for path in HANDOVERS.glob("*.json")]
    assert f"format-{handover.FORMAT}-limits.json" in names
    assert f"format-{handover.FORMAT}-input.json" in names


def test_a_state_survives_encoding() -> None:
    state = complete_state()
    assert decode_state(encode_state(state)) == state


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda document: document.update(format=2), "format 2, only 1"),
        (lambda document: document.update(what="else"), "not written by a keeper"),
        (lambda document: document["table"].update(new=1), "table has new, of a newer release"),
        (lambda document: document["table"].pop("lock"), "table has no lock"),
        (lambda document: document["table"].update(lock="3"), "table.lock is str"),
        (
            lambda document: document["table"]["commands"][0].update(position=None),
            "position is NoneType",
        ),
        (lambda document: document["table"]["commands"][0].pop("life"), "has no grace_seconds"),
        (lambda document: document["table"]["config"].update(new=1), "new"),
        (lambda document: document["table"]["waiting"][0].update(new=1), "new"),
        (lambda document: document["table"]["tree"].update(mode="other"), "of kind other"),
        (lambda document: document["table"]["ledger"]["pending"][0].update(kind=99), "99"),
    ],
)
def test_an_unknown_hand_over_is_refused(change: Any, reason: str) -> None:
    document = json.loads(encode_state(complete_state()))
    change(document)
    with pytest.raises((HandoverError, ValueError, TypeError), match=reason):
        check_state(decode_state(json.dumps(document).encode()))


def test_no_table_at_all_is_refused() -> None:
    with pytest.raises(HandoverError, match="cannot read"):
        decode_state(b"{")


def test_every_descriptor_is_named() -> None:
    state = complete_state()
    assert state.descriptors() == {3, 4, 6, *range(20, 37)}
    assert replace(state, listener=None).descriptors() == {3, 6, *range(20, 37)}
