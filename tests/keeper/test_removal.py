"""The removal of a private directory: it has a time limit, and is reported once."""

import os
import signal
from pathlib import Path

import psutil

from scriptservice.keeper.life.life import REMOVAL_SECONDS
from scriptservice.keeper.system.event_loop import EventLoop
from scriptservice.keeper.system.reaper import Reaper
from scriptservice.protocol.journal_format import Kind
from support.gates import Gate
from support.loops import run_until
from support.mounts import hanging_directory
from support.rig import Rig
from support.service import eventually


def test_a_removal_that_hangs_delays_the_end_of_its_command_for_ten_seconds() -> None:
    rig = Rig()
    try:
        gate = Gate(rig)
        command = rig.spawn(f"echo up; {gate.block}", working_directory="private")
        rig.wait_for(command, Kind.OUTPUT)
        with hanging_directory(rig.data_dir / "private" / command / "hangs"):
            gate.open()
            exited = rig.wait_for(command, Kind.EXITED)
            children = psutil.Process(rig.process.pid).children
            eventually(lambda: any(each.name() == "rm" for each in children()), "the removal")
            rig.wait_for(rig.spawn("echo other"), Kind.CLOSED)
            closed = rig.wait_for(command, Kind.CLOSED)
            assert closed.time_us - exited.time_us >= (REMOVAL_SECONDS - 0.1) * 1e6
            eventually(lambda: all(each.name() != "rm" for each in children()), "its end")
    finally:
        rig.close()


def test_a_removal_that_is_given_up_is_reported_once(tmp_path: Path) -> None:
    loop = EventLoop()
    reaper = Reaper(loop, lambda *_: False)
    (tmp_path / "private" / "sub").mkdir(parents=True)
    reported: list[int] = []
    reaper.remove_directory(str(tmp_path / "private"), lambda: reported.append(1))
    (pid,) = reaper.pids
    os.kill(pid, signal.SIGSTOP)
    reaper.give_up_removals()
    reaper.give_up_removals()
    assert reported == [1]

    def is_reaped() -> bool:
        reaper.child_exited()
        return not reaper.pids

    run_until(loop, is_reaped)
    assert reported == [1]
