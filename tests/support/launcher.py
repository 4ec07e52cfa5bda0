"""Starts the launcher without a keeper, and reads what it reports."""

import os
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scriptservice.keeper.spawn import launcher
from scriptservice.keeper.spawn.exec_failure import SpawnStep, read_outcome
from support.service import PATIENCE_SECONDS

PROGRAM = Path(launcher.__file__).with_suffix("")
FAILED = 127


@dataclass(frozen=True)
class LaunchResult:
    """The result of starting a launcher.

    Attributes:
        report: the step that failed and its errno, or None if the launcher became the program.
        code: the exit code of the launcher or of the program.
        output: what the program printed.
    """

    report: tuple[SpawnStep, int] | None
    code: int
    output: bytes


def launch(
    *options: str,
    program: Iterable[str | bytes] = ("/bin/true",),
    files: Iterable[int] = (),
    under: Iterable[str] = (),
    **popen: Any,
) -> LaunchResult:
    """Start the launcher with a status pipe, and wait until it or its program ends.

    Args:
        options: further options of the launcher.
        program: the program that the launcher becomes, with its arguments.
        files: further descriptors that it inherits.
        under: a command, with its arguments, that runs the launcher.
        popen: further arguments of `subprocess.Popen`.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    words = [*under, str(PROGRAM), f"--status={writer}", *options, "--", *program]
    popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **popen}
    try:
        with subprocess.Popen(words, pass_fds=[writer, *files], **popen) as process:
            os.close(writer)
            writer = -1
            outcome = read_outcome(reader)
            assert outcome is not None
            step = outcome.failed_step
            report = None if step is None else (step, outcome.errno)
            try:
                output, _ = process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                raise
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    return LaunchResult(report, process.returncode, output or b"")


def printed(*options: str, program: Iterable[str | bytes], **more: Any) -> str:
    """Return what a program prints when the launcher becomes it; it must succeed."""
    ended = launch(*options, program=program, **more)
    assert ended.report is None
    assert ended.code == 0, ended
    return ended.output.decode()


def status_of(*options: str, **more: Any) -> dict[str, str]:
    """Return the fields of /proc/self/status in a program that the launcher has become."""
    text = printed(*options, program=["/bin/cat", "/proc/self/status"], **more)
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))
    }
