"""Starts the launcher by itself and reads its report."""

import os
import signal
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scriptservice.keeper.spawn import launcher
from scriptservice.keeper.spawn.exec_failure import SpawnStep, read_failure
from support.service import PATIENCE_SECONDS

PROGRAM = Path(launcher.__file__).with_suffix("")
FAILED = 127


@dataclass(frozen=True)
class Ended:
    """The end of a launcher.

    Attributes:
        report: the step that failed and the errno; None if it has become the program.
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
) -> Ended:
    """Start the launcher with a status, and wait for its end or that of its program.

    Args:
        options: the options after ``--status``.
        program: the program and its arguments.
        files: more descriptors that it inherits.
        under: a program and its arguments that execs the launcher.
        popen: more arguments of `subprocess.Popen`.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    words = [*under, str(PROGRAM), f"--status={writer}", *options, "--", *program]
    popen = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **popen}
    try:
        with subprocess.Popen(words, pass_fds=[writer, *files], **popen) as process:
            os.close(writer)
            writer = -1
            report = read_failure(reader)
            try:
                output, _ = process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                raise
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    return Ended(report, process.returncode, output or b"")


def printed(*options: str, program: Iterable[str | bytes], **more: Any) -> str:
    """Return the output of a program that the launcher execs and that must succeed."""
    ended = launch(*options, program=program, **more)
    assert ended.report is None
    assert ended.code == 0, ended
    return ended.output.decode()


def status_of(*options: str, **more: Any) -> dict[str, str]:
    """Return /proc/self/status of a program that the launcher execs."""
    text = printed(*options, program=["/bin/cat", "/proc/self/status"], **more)
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in text.split("\n"))
    }
