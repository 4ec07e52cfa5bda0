"""Helpers of the keeper and fault suites: stop commands, and find the processes of a service."""

import contextlib
import random
from pathlib import Path
from typing import Any

import psutil

from scriptservice.keeper.system.linux import process_stat
from support.service import PATIENCE_SECONDS, Service, eventually, processes_with


def unique_seconds() -> str:
    """Return a unique argument for ``sleep``, by which a test finds its own processes."""
    return f"{random.randrange(70_000, 99_999)}.{random.randrange(10**9):09d}"


def ask_to_stop(service: Service, command: str, **body: Any) -> dict[str, Any]:
    """Request the stop of a command; return the command as in the answer."""
    response = service.client.post(f"/v1/commands/{command}/stop", json=body)
    assert response.status_code == 202, response.text
    return dict(response.json())


def stop(service: Service, command: str, **body: Any) -> dict[str, Any]:
    """Stop a command and wait for its end."""
    ask_to_stop(service, command, **body)
    return service.wait(command)


def wait_until_gone(text: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until no process has ``text`` in its arguments or environment."""
    eventually(lambda: not processes_with(text), f"processes with {text} to be gone", seconds)


def keeper_of(service: Service) -> psutil.Process:
    """Return the keeper's process."""
    assert service.process is not None
    return psutil.Process(service.process.pid)


def cgroup_of(keeper: int) -> str:
    """Return the name of a running keeper's own cgroup.

    The name contains the keeper's start time, since a process id may be reused.
    """
    stat = process_stat(keeper)
    assert stat is not None, f"no process {keeper}"
    return f"scriptservice-{keeper}-{stat.start_ticks}"


def zombies_of(process: psutil.Process) -> list[int]:
    """Return the unreaped children of a process."""
    found = []
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child.pid)
    return found


def peak_bytes(pid: int) -> int:
    """Return the largest resident size a process has had."""
    return _status_bytes(pid, "VmHWM:")


def resident_bytes(pid: int) -> int:
    """Return the resident size of a process."""
    return _status_bytes(pid, "VmRSS:")


def _status_bytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name} in the status of {pid}")
