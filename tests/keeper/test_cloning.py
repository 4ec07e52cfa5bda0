"""Processes that start in their parent's memory: what they get, and what stays of the parent."""

import errno
import json
import logging
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from scriptservice.keeper.spawn.cloning import CloneMethod
from scriptservice.keeper.spawn.exec_failure import SpawnStep, read_failure
from scriptservice.keeper.spawn.new_process import NewProcess
from scriptservice.keeper.spawn.script_user import ScriptUser
from scriptservice.keeper.spawn.spawner import Spawner
from scriptservice.keeper.tree.cgroup import own_cgroup
from support.launcher import FAILED
from support.needs import require
from support.service import eventually

pytestmark = pytest.mark.needs_compiler

SHOW = """import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "files": sorted(int(name) for name in os.listdir("/proc/self/fd")
                    if os.path.exists("/proc/self/fd/" + name)),
    "leads": os.getpid() == os.getpgid(0) == os.getsid(0),
    "umask": status["Umask"].strip(),
    "blocked": int(status["SigBlk"], 16),
    "ignored": int(status["SigIgn"], 16),
    "directory": os.getcwd(),
    "environment": dict(os.environ),
}))"""


@pytest.fixture
def method() -> CloneMethod:
    found = CloneMethod.probe(trial(b"/"))
    assert found is not None
    return found


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup that is frozen until a test writes 0 to ``cgroup.freeze``."""
    require("cgroup")
    own = own_cgroup()
    assert own is not None, "no cgroup2 is mounted"
    path = Path(own) / f"scriptservice-test-{uuid4()}"
    path.mkdir()
    (path / "cgroup.freeze").write_text("1")
    yield path
    (path / "cgroup.kill").write_text("1")
    eventually(lambda: "populated 0" in (path / "cgroup.events").read_text(), "it to be empty")
    path.rmdir()


@pytest.fixture
def procs(cgroup: Path) -> Iterator[int]:
    handle = os.open(cgroup / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    yield handle
    os.close(handle)


NULL = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
ROOT = os.open("/", os.O_PATH | os.O_CLOEXEC)
USER = ScriptUser(os.geteuid(), os.getegid(), (), "x", None, changes=False)


def trial(*words: bytes, **fields: object) -> NewProcess:
    made = NewProcess(list(words), {}, ROOT, NULL, (NULL, NULL, NULL), USER)
    return replace(made, **fields)  # type: ignore[arg-type]


def ended(method: CloneMethod, process: NewProcess) -> tuple[tuple[SpawnStep, int] | None, int]:
    """Start a process and wait for its end; return its report, and its exit code."""
    pid, status = method.start(process)
    report = read_failure(status)
    _, code = os.waitpid(pid, 0)
    os.close(status)
    method.release(status)
    return report, os.waitstatus_to_exitcode(code)


def printed(method: CloneMethod, *words: bytes, **fields: object) -> bytes:
    """Return what a process prints; it must succeed."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(reader, "rb") as output:
        done = threading.Thread(target=lambda: parts.append(output.read()))
        parts: list[bytes] = []
        done.start()
        found = ended(method, trial(*words, streams=(NULL, writer, writer), **fields))
        os.close(writer)
        done.join()
    assert found == (None, 0), parts
    return parts[0]


# The process


def test_gets_what_every_script_gets(method: CloneMethod) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    inherited = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        shown = json.loads(
            printed(
                method,
                sys.executable.encode(),
                b"-c",
                SHOW.encode(),
                environment={b"NAME": b"value"},
            )
        )
    finally:
        os.close(inherited)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
    assert (
        shown.pop("ignored") & ~(1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0
    )  # Python's
    assert shown == {
        "files": [0, 1, 2, 63],
        "leads": True,
        "umask": "0077",
        "blocked": 0,
        "directory": "/",
        "environment": {"NAME": "value", "LC_CTYPE": "C.UTF-8"},
    }


def test_ignores_no_signal(method: CloneMethod) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    shown = printed(method, b"/bin/grep", b"SigIgn", b"/proc/self/status")
    assert int(shown.split()[1], 16) == 0


def test_has_the_limits_of_descriptors(method: CloneMethod) -> None:
    shown = printed(
        method, b"/bin/bash", b"-c", b"ulimit -Sn; ulimit -Hn", descriptor_limits=(111, 222)
    )
    assert shown == b"111\n222\n"
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = printed(method, b"/bin/bash", b"-c", b"ulimit -Sn; ulimit -Hn")
    assert shown.split() == [b"%d" % each for each in own]


def test_two_hundred_simultaneous_starts_are_independent(method: CloneMethod) -> None:
    """Each has its own arguments, environment and stack in the same memory."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    started = []
    for number in range(200):
        process = trial(
            b"/bin/bash", b"-c", b'echo "$1 $NAME"', b"bash", b"word%03d" % number,
            environment={b"NAME": b"value%03d" % number}, streams=(NULL, writer, writer),
        )  # fmt: skip
        started.append(method.start(process))
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        lines = sorted(output.read().splitlines())
    for pid, status in started:
        assert read_failure(status) is None
        assert os.waitpid(pid, 0)[1] == 0
        os.close(status)
        method.release(status)
    assert lines == [b"word%03d value%03d" % (number, number) for number in range(200)]
    assert method._in_use == {}
    assert len(method._stacks) <= 64


# Failures


@pytest.mark.parametrize(
    ("fields", "report"),
    [
        ({"directory": 900}, (SpawnStep.DIRECTORY, errno.EBADF)),
        ({"cgroup": 900}, (SpawnStep.CGROUP, errno.EBADF)),
        ({"descriptor_limits": (5, 4)}, (SpawnStep.LIMIT, errno.EINVAL)),
        ({"streams": (NULL, 900, NULL)}, (SpawnStep.DESCRIPTORS, errno.EBADF)),
        ({"script": 900}, (SpawnStep.DESCRIPTORS, errno.EBADF)),
        ({"argv": [b"/no/such"]}, (SpawnStep.EXEC, errno.ENOENT)),
        ({"argv": [b"/etc/passwd/x"]}, (SpawnStep.EXEC, errno.ENOTDIR)),
        ({"argv": [b"/etc"]}, (SpawnStep.EXEC, errno.EACCES)),
        ({"argv": [b"/bin/true", b"x" * 200_000]}, (SpawnStep.EXEC, errno.E2BIG)),
        ({"argv": [b"no-such"], "environment": {b"PATH": b"/etc/passwd:/bin"}},
         (SpawnStep.EXEC, errno.ENOENT)),
        ({"argv": [b"passwd"], "environment": {b"PATH": b"/x:/etc:/bin-"}},
         (SpawnStep.EXEC, errno.EACCES)),
    ],
)  # fmt: skip
def test_reports_the_step_that_failed(
    method: CloneMethod, fields: dict[str, object], report: tuple[SpawnStep, int]
) -> None:
    files = sorted(os.listdir("/proc/self/fd"))
    assert ended(method, trial(b"/bin/true", **fields)) == (report, FAILED)
    assert sorted(os.listdir("/proc/self/fd")) == files


def test_refuses_a_zero_byte(method: CloneMethod) -> None:
    for process in (
        trial(b"/bin/true", b"a\0b"),
        trial(b"/bin/true", environment={b"NAME": b"a\0b"}),
    ):
        with pytest.raises(ValueError, match="null byte"):
            method.start(process)
    assert method._in_use == {}


# The parent


def test_changes_nothing_of_its_parent(method: CloneMethod) -> None:
    def own() -> tuple[object, ...]:
        status = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().split("\n") if line
        )
        signals = [status[name] for name in ("SigBlk", "SigIgn", "SigCgt", "Umask", "NSsid")]
        files = {
            name: os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}")  # not the listing's own
        }
        return signals, os.getcwd(), files, resource.getrlimit(resource.RLIMIT_NOFILE)

    before = own()
    for words in ([b"/bin/true"], [b"/no/such"]):
        ended(method, trial(*words, descriptor_limits=(100, 100)))
    assert own() == before


def test_handles_a_signal_only_after_its_exec(
    method: CloneMethod, cgroup: Path, procs: int
) -> None:
    """Before its exec, its signal handlers would run in the parent's memory."""
    called = []
    before = signal.signal(signal.SIGUSR1, lambda *_: called.append(1))
    try:
        pid, status = method.start(trial(b"/bin/sleep", b"100", cgroup=procs))
        eventually((cgroup / "cgroup.procs").read_text, "it to stand still")
        os.kill(pid, signal.SIGUSR1)
        (cgroup / "cgroup.freeze").write_text("0")
        assert read_failure(status) is None  # the end of the file
        assert os.waitpid(pid, 0)[1] == signal.SIGUSR1
        os.close(status)
        method.release(status)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == []


def test_a_stopped_process_does_not_delay_others(
    method: CloneMethod, cgroup: Path, procs: int
) -> None:
    pid, status = method.start(trial(b"/bin/true", cgroup=procs))
    eventually((cgroup / "cgroup.procs").read_text, "it to stand still")
    for _ in range(100):
        assert ended(method, trial(b"/bin/true")) == (None, 0)
    assert select.select([status], [], [], 0)[0] == []
    (cgroup / "cgroup.freeze").write_text("0")
    assert read_failure(status) is None
    assert os.waitpid(pid, 0)[1] == 0
    os.close(status)
    method.release(status)


PARENT = """import os, sys
sys.path[:0] = sys.argv[3:]
from test_cloning import CloneMethod, trial
method = CloneMethod.probe(trial(b"/"))
handle = os.open(sys.argv[1], os.O_WRONLY | os.O_CLOEXEC)
pid, _ = method.start(trial(b"/usr/bin/touch", sys.argv[2].encode(), cgroup=handle))
print(pid, flush=True)
input()"""


def test_dies_with_its_parent_before_its_exec(cgroup: Path, tmp_path: Path) -> None:
    """Its environment tells its command, but it gets that only with the exec."""
    mark = tmp_path / "ran"
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    words = [sys.executable, "-c", PARENT, str(cgroup / "cgroup.procs"), str(mark), *paths]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        eventually((cgroup / "cgroup.procs").read_text, "it to stand still")
        assert psutil.pid_exists(pid)
        parent.kill()
    eventually(lambda: not (cgroup / "cgroup.procs").read_text(), "it to be gone")
    assert not mark.exists()


# Choice of the method


def test_is_chosen_for_the_keepers_own_user_only(directory: Path) -> None:
    other = ScriptUser(59999, 59999, (), "x", None, changes=True)
    for user, name in ((USER, "clone"), (other, "launcher")):
        place = directory / name
        place.mkdir(mode=0o711)
        assert Spawner(str(place), user, path="/bin", lang="C").method_name == name
    forking = Spawner(str(place), USER, path="/bin", lang="C", use_launcher=False)
    assert forking.method_name == "fork"


@pytest.mark.parametrize("content", [None, b"no library", "another"])
def test_is_not_chosen_if_the_library_cannot_be_loaded(
    content: bytes | str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "clone.so"
    if content == "another":
        shutil.copy("/lib/x86_64-linux-gnu/libm.so.6", path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with caplog.at_level(logging.INFO):
        assert CloneMethod.probe(trial(b"/"), str(path)) is None
    assert (
        [record.message for record in caplog.records] == []
        if content is None
        else ["clone_unusable"]
    )


def test_is_not_chosen_if_its_processes_fail(caplog: pytest.LogCaptureFixture) -> None:
    assert CloneMethod.probe(trial(b"/bin/true")) is None
    assert CloneMethod.probe(trial(b"/", directory=900)) is None
    said = [record.fields["detail"] for record in caplog.records]  # type: ignore[attr-defined]
    assert said == ["it did not report that its exec failed", "directory: Bad file descriptor"]
