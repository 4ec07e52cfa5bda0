"""A program that raises an exception at every line of a start, and prints what each one left.

usage: spawn_exceptions.py METHOD DIRECTORY

Prints a JSON object: the number of starts, and a list of what was left, which should be empty.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from types import FrameType
from typing import Any
from uuid import uuid4

import scriptservice.keeper.spawn
from scriptservice.keeper.spawn.forking import ForkMethod
from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.spawn_error import SpawnError
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.protocol.frames import SpawnSpec
from support.service import eventually
from support.spawn_cases import USER, children, open_files

CODE = os.path.dirname(scriptservice.keeper.spawn.__file__)
PLAIN = SpawnSpec("", "exec sleep 3600", ["/bin/bash"])
SPECS = {
    "plain": PLAIN,
    "stdin": replace(PLAIN, stdin="in"),
    "private": replace(PLAIN, working_directory="private"),
    "named": replace(PLAIN, working_directory="/etc", interpreter=["bash"]),
    "large": replace(PLAIN, script="# " + "x" * 100_000 + "\nexec sleep 3600"),
    "zero byte": replace(PLAIN, args=["a\0b"]),
    "too long": replace(PLAIN, args=["x" * 200_000]),
}
ERRORS: tuple[Exception, ...] = (RuntimeError("here"), OSError(24, "here"))


class RaisesAt:
    """A trace function that raises an exception once, when the start comes to a line.

    Args:
        number: the line at which it raises, counted from 1 in the order of execution.
        error: the exception.

    Attributes:
        where: the file and the line at which it raised.
    """

    def __init__(self, number: int, error: Exception) -> None:
        self._left = number
        self._error = error
        self.where: tuple[str, int] | None = None

    def __call__(self, frame: FrameType, event: str, _: Any) -> "Callable[..., Any] | None":
        if not frame.f_code.co_filename.startswith(CODE):
            return None
        if event == "line":
            self._left -= 1
            if self._left == 0:
                self.where = (os.path.basename(frame.f_code.co_filename), frame.f_lineno)
                raise self._error
        return self


def start_and_undo(spawner: Spawner, spec: SpawnSpec, trace: RaisesAt) -> None:
    """Start a script with a trace function, and undo the start."""
    cleanup = ExitStack()
    try:
        sys.settrace(trace)
        try:
            spawner.spawn(replace(spec, id=str(uuid4())), None, cleanup)
        finally:
            sys.settrace(None)
    except SpawnError as error:
        if error.retry and children():
            sys.exit(f"a script may run twice after {trace.where}")
    except (RuntimeError, OSError):
        pass
    cleanup.close()


def files() -> list[str]:
    """Return what is open; the spawner's reserve may get another number."""
    return sorted(open_files().values())


def reap_all() -> bool:
    """Reap the children that have ended; return whether none is left."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return children() == ""


def main() -> None:
    name, directory = sys.argv[1:]
    os.umask(0o077)
    spawner = Spawner(f"{directory}/data", USER, path="/bin", lang="C")
    if name == "fork":
        spawner._method = ForkMethod()
    assert isinstance(spawner._method, ForkMethod if name == "fork" else LauncherMethod)
    left, starts = [], 0
    before = files()
    for kind, spec in SPECS.items():
        for error in ERRORS:
            trace = RaisesAt(0, error)
            number = 0
            while number == 0 or trace.where is not None:
                number += 1
                trace = RaisesAt(number, error)
                start_and_undo(spawner, spec, trace)
                eventually(reap_all, f"no process left: {kind}, {trace.where}", 60)
                state = (files() == before, os.listdir(f"{directory}/data/private"),
                         signal.pthread_sigmask(signal.SIG_BLOCK, ()))  # fmt: skip
                if state != (True, [], set()):
                    left.append([kind, trace.where, repr(error), repr(state)])
                    before = files()
                    signal.pthread_sigmask(signal.SIG_SETMASK, ())
            starts += number
    print(json.dumps({"starts": starts, "left": left}))


if __name__ == "__main__":
    main()
