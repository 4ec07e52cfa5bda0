"""A program that starts scripts with one method, in a process of its own, and prints the results.

usage: spawn_cases.py METHOD DIRECTORY [own]

Prints a JSON object with the result of each case by its name. With ``own`` the program runs as the
user of the scripts.
"""

import ctypes
import json
import os
import select
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from uuid import uuid4

from scriptservice.keeper.spawn.exec_failure import StartOutcome, read_outcome
from scriptservice.keeper.spawn.forking import ForkMethod
from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.script_user import ScriptUser
from scriptservice.keeper.spawn.spawn_error import SpawnError, start_failure
from scriptservice.keeper.spawn.spawned_process import SpawnedProcess
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.system.linux import process_stat
from scriptservice.protocol.frames import SpawnSpec

USER = ScriptUser(59999, 59998, (7, 8), "someone", None, changes=True)
SPEC = SpawnSpec("", "echo $0; id -u; id -G; pwd; cat", ["/bin/bash"], ["x"], stdin="in\n")


def start(spawner: Spawner, spec: SpawnSpec, cgroup: int | None = None) -> SpawnedProcess:
    """Start a script and make sure that it runs."""
    with ExitStack() as cleanup:
        spawned = spawner.spawn(spec, cgroup, cleanup)
        outcome = wait_for_outcome(spawned.status)
        if outcome.failed_step is not None:
            os.waitpid(spawned.pid, 0)
            raise start_failure(outcome, spec.interpreter[0], spec.working_directory)
        os.close(spawned.status)
        cleanup.pop_all()
    return spawned


def wait_for_outcome(status: int) -> StartOutcome:
    """Wait until a process that was started is its script or has failed."""
    select.select([status], [], [])
    outcome = read_outcome(status)
    assert outcome is not None
    return outcome


def end(spawned: SpawnedProcess) -> tuple[str, int]:
    """Return what a script prints and how it ends; close its descriptors."""
    printed = b""
    for stream in (spawned.stdout, spawned.stderr):
        while part := os.read(stream, 65536):
            printed += part
        os.close(stream)
    _, status = os.waitpid(spawned.pid, 0)
    os.close(spawned.pidfd)
    return printed.decode(), os.waitstatus_to_exitcode(status)


def refusal(spawner: Spawner, spec: SpawnSpec, cgroup: int | None = None) -> tuple[str, bool]:
    """Return why a script cannot be started, and whether the spawner would try again."""
    try:
        spawned = start(spawner, spec, cgroup)
    except SpawnError as error:
        return str(error), error.retry
    raise AssertionError(end(spawned))


def open_files() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of listdir itself
    return found


def children() -> str:
    with open("/proc/thread-self/children") as file:
        return file.read()


def cases(spawner: Spawner, directory: str) -> dict[str, Any]:
    before = open_files()
    found: dict[str, Any] = {"method": spawner.method_name}
    found["ran"] = end(start(spawner, SPEC))
    found["private"] = end(start(spawner, replace(SPEC, id="p", working_directory="private")))
    found["large"] = end(
        start(spawner, replace(SPEC, script="# " + "x" * 100_000 + "\necho large"))
    )
    env = {"PATH": f"/no/such:{directory}/closed:/bin"}
    found["looked for"] = end(start(spawner, replace(SPEC, interpreter=["bash"], env=env)))
    refused = {
        "no program": {"interpreter": ["/no/such/program"]},
        "no name": {"interpreter": ["no-such-program"]},
        "a directory": {"interpreter": ["/etc"]},
        "no format": {"interpreter": [f"{directory}/text"]},
        "closed on the path": {"interpreter": ["tool"], "env": {"PATH": f"{directory}/closed"}},
        "too long": {"args": ["x" * 100_000] * 60},
        "one too long": {"args": ["x" * 200_000]},
        "no directory": {"working_directory": "/no/such"},
        "a closed directory": {"working_directory": "/root"},
        "a file": {"working_directory": "/etc/passwd"},
        "no program in private": {"working_directory": "private", "interpreter": ["/no/such"]},
        "a zero byte": {"args": ["a\0b"]},
    }
    for name, fields in refused.items():
        found[name] = refusal(spawner, replace(SPEC, id=str(uuid4()), **fields))
    found |= directories(spawner, directory)
    full = os.open("/dev/full", os.O_WRONLY | os.O_CLOEXEC)
    found["cgroup"] = refusal(spawner, SPEC, full)[1]
    os.close(full)
    found["left in private"] = os.listdir(f"{directory}/data/private")
    found["files left"] = sorted(open_files().items() - before.items())
    found["children left"] = children()
    return found


def directories(spawner: Spawner, directory: str) -> dict[str, Any]:
    """Name the keeper's own directory as the working directory; then close and remove ``work``."""
    found: dict[str, Any] = {}
    for name in ("self", "thread-self", str(os.getpid())):
        path = f"/proc/{name}/cwd"
        spec = replace(SPEC, id=str(uuid4()), script="pwd; cat secret", working_directory=path)
        try:
            found[f"cwd of {name}"] = end(start(spawner, spec))
        except SpawnError as error:
            found["cwd of the keeper"] = str(error).replace(name, "KEEPER")
    end(start(spawner, replace(SPEC, script="chmod 0 .")))
    end(start(spawner, replace(SPEC, id="q", working_directory="private", script="chmod 0 .")))
    found["after chmod"] = end(start(spawner, replace(SPEC, script="pwd")))
    elsewhere = replace(SPEC, script="pwd", working_directory="/etc")
    found["elsewhere after chmod"] = end(start(spawner, elsewhere))
    os.rmdir(f"{directory}/data/work")
    found["after removal"] = end(start(spawner, replace(SPEC, script="pwd")))
    return found


def starts(spawner: Spawner) -> list[tuple[int, int]]:
    """Return the start ticks that the spawner and /proc report, for starts spread over a tick."""
    pairs = []
    for number in range(300):
        spawned = start(spawner, replace(SPEC, script="exec sleep 100"))
        stat = process_stat(spawned.pid)
        assert stat is not None
        pairs.append((spawned.start_ticks, stat.start_ticks))
        os.kill(spawned.pid, 9)
        end(spawned)
        time.sleep(number % 10 / 1000)
    return pairs


def become(user: ScriptUser) -> None:
    """Become another user, and stay able to read this process's /proc."""
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE


def main() -> None:
    name, directory, *own = sys.argv[1:]
    os.umask(0o077)
    os.chdir(f"{directory}/closed to scripts/open")
    user = USER
    if own:
        become(USER)
        user = replace(USER, changes=False)
    spawner = Spawner(f"{directory}/data", user, path="/bin", lang="C")
    trial = spawner._trial()
    method = {
        "launcher": lambda: LauncherMethod.probe(trial),
        "fork": ForkMethod,
    }[name]()
    assert method is not None, name
    spawner._method = method
    found = cases(spawner, directory)
    found["starts"] = starts(spawner)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
