"""The methods to start a script: they differ only in speed, and the first that works is chosen."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scriptservice.keeper.spawn.exec_failure import STARTED, open_status_pipe
from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.new_process import NewProcess, SpawnResources
from scriptservice.keeper.spawn.script_user import ScriptUser
from support import spawn_cases
from support.launcher import PROGRAM
from support.needs import require
from support.service import new_directory

METHODS = ("launcher", "fork", "launcher own", "fork own")
"""The method, and ``own`` if the keeper itself has the scripts' user."""


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, dict[str, Any]]]:
    """The results of the same scripts with each method."""
    require("root", "compiler")
    results = {}
    directory = new_directory()
    try:
        for method in METHODS:
            place = directory / method.replace(" ", "-")
            for path in (place, place / "data", place / "closed"):
                path.mkdir()
                path.chmod(0o711)
            inside = place / "closed to scripts" / "open"
            inside.parent.mkdir(mode=0o700)
            inside.mkdir(mode=0o755)
            (inside / "secret").write_text("secret\n")
            for path, mode in ((place / "text", 0o755), (place / "closed" / "tool", 0o644)):
                path.write_text("text\n")
                path.chmod(mode)
            name, *own = method.split()
            if own:
                os.chown(place / "data", spawn_cases.USER.uid, spawn_cases.USER.gid)
            words = [sys.executable, spawn_cases.__file__, name, str(place), *own]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            results[method] = json.loads(done.stdout.replace(str(place), "HERE"))
        yield results
    finally:
        shutil.rmtree(directory)


def test_scripts_run_alike_with_every_method(
    found: dict[str, dict[str, Any]],
) -> None:
    assert [found[method].pop("method") for method in METHODS] == [
        method.split()[0] for method in METHODS
    ]
    assert found["launcher"]["ran"] == [
        "/dev/fd/63\n59999\n59998 7 8\nHERE/data/work\nin\n", 0
    ]  # fmt: skip
    for name in ("ran", "private", "large", "looked for"):
        assert found["launcher"][name][1] == 0
        for method in METHODS:
            assert found[method][name] == found["launcher"][name], (method, name)


@pytest.mark.parametrize(
    ("case", "reason"),
    {
        "no program": "cannot run /no/such/program: No such file or directory",
        "no name": "cannot run no-such-program: No such file or directory",
        "a directory": "cannot run /etc: Permission denied",
        "no format": "cannot run HERE/text: Exec format error",
        "closed on the path": "cannot run tool: Permission denied",
        "too long": "cannot run /bin/bash: Argument list too long",
        "one too long": "cannot run /bin/bash: Argument list too long",
        "no directory": "cannot enter working directory /no/such: No such file or directory",
        "a closed directory": "cannot enter working directory /root: Permission denied",
        "a file": "cannot enter working directory /etc/passwd: Not a directory",
        "no program in private": "cannot run /no/such: No such file or directory",
        "a zero byte": "cannot start the script: embedded null byte",
    }.items(),
)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_same_reason_for_a_permanent_failure(
    found: dict[str, dict[str, Any]], method: str, case: str, reason: str
) -> None:
    assert found[method][case] == [reason, False]


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_that_is_not_the_scripts_may_be_retried(
    found: dict[str, dict[str, Any]], method: str
) -> None:
    assert found[method]["cgroup"] is True


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_left_behind(found: dict[str, dict[str, Any]], method: str) -> None:
    # The keeper removes the directories of the scripts that ran.
    assert sorted(found[method]["left in private"]) == ["p", "q"]
    assert found[method]["files left"] == []
    assert found[method]["children left"] == ""


@pytest.mark.parametrize("method", METHODS)
def test_a_named_directory_is_that_of_the_scripts_process_and_user(
    found: dict[str, dict[str, Any]], method: str
) -> None:
    """The keeper is in a directory that the scripts' user can only reach through it."""
    for name in ("self", "thread-self"):
        missing = "HERE/data/work\ncat: secret: No such file or directory\n"
        assert found[method][f"cwd of {name}"] == [missing, 1]
    if not method.endswith("own"):
        refused = "cannot enter working directory /proc/KEEPER/cwd: Permission denied"
        assert found[method]["cwd of the keeper"] == refused


@pytest.mark.parametrize("method", METHODS)
def test_a_script_that_closes_or_removes_its_directory_stops_no_other(
    found: dict[str, dict[str, Any]], method: str
) -> None:
    assert found[method]["after chmod"] == ["HERE/data/work\n", 0]
    assert found[method]["elsewhere after chmod"] == ["/etc\n", 0]
    assert found[method]["after removal"] == ["HERE/data/work\n", 0]


@pytest.mark.parametrize("method", METHODS)
def test_start_ticks_are_those_in_proc(found: dict[str, dict[str, Any]], method: str) -> None:
    pairs = found[method]["starts"]
    assert len({ours for ours, _ in pairs}) > 50
    assert [ours for ours, _ in pairs] == [theirs for _, theirs in pairs]


# Choice of the method


@pytest.fixture
def trial() -> Iterator[NewProcess]:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    user = ScriptUser(os.geteuid(), os.getegid(), (), "x", None, changes=False)
    handle = os.open("/", os.O_PATH | os.O_CLOEXEC)
    yield NewProcess([b"/"], {}, handle, null, (null, null, null), null, user)
    os.close(handle)
    os.close(null)


@pytest.mark.needs_compiler
def test_a_working_launcher_is_chosen(trial: NewProcess) -> None:
    launcher = LauncherMethod.probe(trial)
    assert launcher is not None
    made = SpawnResources()
    status, writer = open_status_pipe(made)
    launcher.start(replace(trial, argv=[b"/bin/true"], status=writer), made)
    made.close_except(status)
    assert spawn_cases.wait_for_outcome(status) == STARTED
    assert os.waitpid(made.pid, 0)[1] == 0
    made.close_except()
    os.close(launcher._program)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("/no/such/launcher", "it was not built"),
        ("/bin/true", "it did not report"),
        ("/bin/false", "it did not report"),
        ("/etc/passwd", "it cannot be run: Permission denied"),
        ("/", "it cannot be run: Permission denied"),
    ],
)
def test_a_launcher_that_does_not_work_is_not_chosen(
    trial: NewProcess, caplog: pytest.LogCaptureFixture, program: str, said: str
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    caplog.set_level(logging.INFO)
    assert LauncherMethod.probe(trial, program) is None
    (record,) = caplog.records
    assert said in record.fields["detail"]  # type: ignore[attr-defined]
    assert "started by fork" in record.fields["detail"]  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.needs_compiler
def test_a_launcher_for_another_machine_is_not_chosen(
    trial: NewProcess, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    other = bytearray(PROGRAM.read_bytes())
    other[18:20] = b"\xff\xff"  # e_machine
    (tmp_path / "launcher").write_bytes(other)
    (tmp_path / "launcher").chmod(0o755)
    assert LauncherMethod.probe(trial, str(tmp_path / "launcher")) is None
    assert os.strerror(errno.ENOEXEC) in caplog.text or caplog.records


@pytest.mark.needs_compiler
def test_a_launcher_that_fails_at_a_step_is_not_chosen(
    trial: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be of another release and not know an option, or the kernel may refuse a step."""
    root = ScriptUser(0, 0, (), "root", None, changes=True)
    assert LauncherMethod.probe(replace(trial, user=root)) is None
    (record,) = caplog.records
    assert "arguments: Operation not permitted" in record.fields["detail"]  # type: ignore[attr-defined]
