"""The ways to start a script: alike in all but speed, and chosen by what works."""

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

from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.new_process import NewProcess
from scriptservice.keeper.spawn.script_user import ScriptUser
from support import spawn_cases
from support.launcher import PROGRAM
from support.needs import require
from support.service import new_directory

WAYS = ("launcher", "fork", "clone own", "launcher own", "fork own")
"""By which way, and whether the keeper is the scripts' user itself."""


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, dict[str, Any]]]:
    """What came of the same scripts by each way."""
    require("root", "compiler")
    results = {}
    directory = new_directory()
    try:
        for way in WAYS:
            place = directory / way.replace(" ", "-")
            for path in (place, place / "data", place / "closed"):
                path.mkdir()
                path.chmod(0o711)
            for path, mode in ((place / "text", 0o755), (place / "closed" / "tool", 0o644)):
                path.write_text("text\n")
                path.chmod(mode)
            name, *own = way.split()
            if own:
                os.chown(place / "data", spawn_cases.USER.uid, spawn_cases.USER.gid)
            words = [sys.executable, spawn_cases.__file__, name, str(place), *own]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            results[way] = json.loads(done.stdout.replace(str(place), "HERE"))
        yield results
    finally:
        shutil.rmtree(directory)


def test_scripts_cannot_tell_by_which_way_they_were_started(
    found: dict[str, dict[str, Any]],
) -> None:
    assert [found[way].pop("way") for way in WAYS] == [way.split()[0] for way in WAYS]
    assert found["launcher"]["ran"] == [
        "/dev/fd/63\n59999\n59998 7 8\nHERE/data/work\nin\n", 0
    ]  # fmt: skip
    for name in ("ran", "private", "large", "looked for"):
        assert found["launcher"][name][1] == 0
        for way in WAYS:
            assert found[way][name] == found["launcher"][name], (way, name)


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
@pytest.mark.parametrize("way", WAYS)
def test_what_can_never_start_is_told_alike(
    found: dict[str, dict[str, Any]], way: str, case: str, reason: str
) -> None:
    assert found[way][case] == [reason, False]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_not_the_scripts_fault_is_tried_again(
    found: dict[str, dict[str, Any]], way: str
) -> None:
    assert found[way]["cgroup"] is True


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_behind(found: dict[str, dict[str, Any]], way: str) -> None:
    assert found[way]["left in private"] == ["p"]  # of the one that ran, for the keeper to remove
    assert found[way]["files left"] == []
    assert found[way]["children left"] == ""


@pytest.mark.parametrize("way", WAYS)
def test_the_start_is_the_one_that_proc_tells(found: dict[str, dict[str, Any]], way: str) -> None:
    pairs = found[way]["starts"]
    assert len({ours for ours, _ in pairs}) > 50
    assert [ours for ours, _ in pairs] == [theirs for _, theirs in pairs]


# Which way


@pytest.fixture
def trial() -> Iterator[NewProcess]:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    user = ScriptUser(os.geteuid(), os.getegid(), (), "x", None, changes=False)
    handle = os.open("/", os.O_PATH | os.O_CLOEXEC)
    yield NewProcess([b"/"], {}, handle, null, (null, null, null), user)
    os.close(handle)
    os.close(null)


@pytest.mark.needs_compiler
def test_a_launcher_that_works_is_taken(trial: NewProcess) -> None:
    launcher = LauncherMethod.probe(trial)
    assert launcher is not None
    pid, status = launcher.start(replace(trial, argv=[b"/bin/true"]))
    assert os.read(status, 8) == b""
    assert os.waitpid(pid, 0)[1] == 0
    os.close(status)
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
def test_one_that_does_not_is_left(
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
def test_so_is_one_of_another_kind_of_machine(
    trial: NewProcess, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    other = bytearray(PROGRAM.read_bytes())
    other[18:20] = b"\xff\xff"  # e_machine
    (tmp_path / "launcher").write_bytes(other)
    (tmp_path / "launcher").chmod(0o755)
    assert LauncherMethod.probe(trial, str(tmp_path / "launcher")) is None
    assert os.strerror(errno.ENOEXEC) in caplog.text or caplog.records


@pytest.mark.needs_compiler
def test_so_is_one_that_cannot_do_all_of_it(
    trial: NewProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """As one of an earlier release, which does not know an option; or where the kernel refuses."""
    root = ScriptUser(0, 0, (), "root", None, changes=True)
    assert LauncherMethod.probe(replace(trial, user=root)) is None
    (record,) = caplog.records
    assert "arguments: Operation not permitted" in record.fields["detail"]  # type: ignore[attr-defined]
