"""Both methods to start a process: what it gets, what it reports, and what its parent keeps."""

import errno
import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from scriptservice.keeper.spawn.exec_failure import (
    REPORT,
    STARTED,
    SpawnStep,
    StartOutcome,
    open_status_pipe,
    read_outcome,
)
from scriptservice.keeper.spawn.forking import ForkMethod
from scriptservice.keeper.spawn.launcher import LauncherMethod
from scriptservice.keeper.spawn.new_process import (
    SCRIPT_DESCRIPTOR,
    NewProcess,
    SpawnMethod,
    SpawnResources,
)
from scriptservice.keeper.spawn.script_user import ScriptUser
from scriptservice.keeper.spawn.spawn_error import start_failure
from scriptservice.keeper.tree.cgroup import own_cgroup
from support.launcher import FAILED
from support.needs import require
from support.service import eventually
from support.spawn_cases import wait_for_outcome

# The process of a test has other threads, which the keeper has not. A forked process uses no lock.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

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


@pytest.fixture(params=["launcher", "fork"])
def method(request: pytest.FixtureRequest) -> Iterator[SpawnMethod]:
    if request.param == "fork":
        yield ForkMethod()
        return
    require("compiler")
    found = LauncherMethod.probe(trial(b"/"))
    assert found is not None
    yield found
    os.close(found._program)


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


NOFILE = resource.RLIMIT_NOFILE
NULL = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
NULL_READER = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


@pytest.fixture(autouse=True)
def descriptor_of_scripts() -> None:
    """Occupy the number, as the keeper does, so that no status pipe gets it.

    Another test of this process may have closed what had the number.
    """
    if not os.path.exists(f"/proc/self/fd/{SCRIPT_DESCRIPTOR}"):
        os.dup2(NULL, SCRIPT_DESCRIPTOR, inheritable=False)


ROOT = os.open("/", os.O_PATH | os.O_CLOEXEC)
USER = ScriptUser(os.geteuid(), os.getegid(), (), "x", None, changes=False)


def trial(*words: bytes, **fields: object) -> NewProcess:
    made = NewProcess(list(words), {}, ROOT, NULL, (NULL, NULL, NULL), NULL, USER)
    return replace(made, **fields)  # type: ignore[arg-type]


def started(method: SpawnMethod, process: NewProcess) -> tuple[int, int]:
    """Start a process; return its id and the read end of its status pipe."""
    made = SpawnResources()
    status, writer = open_status_pipe(made)
    method.start(replace(process, status=writer), made)
    made.close_except(status)
    return made.pid, status


def ended(method: SpawnMethod, process: NewProcess) -> tuple[StartOutcome, int]:
    """Start a process and wait for its end; return its outcome, and its exit code."""
    pid, status = started(method, process)
    outcome = wait_for_outcome(status)
    _, code = os.waitpid(pid, 0)
    os.close(status)
    return outcome, os.waitstatus_to_exitcode(code)


def printed(method: SpawnMethod, *words: bytes, **fields: object) -> bytes:
    """Return what a process prints, less than a pipe holds; it must succeed."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        found = ended(method, trial(*words, streams=(NULL, writer, writer), **fields))
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as output:
        shown = output.read()
    assert found == (STARTED, 0), shown
    return shown


# The process


def test_gets_what_every_script_gets(method: SpawnMethod) -> None:
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


def test_ignores_no_signal(method: SpawnMethod) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    shown = printed(method, b"/bin/grep", b"SigIgn", b"/proc/self/status")
    assert int(shown.split()[1], 16) == 0


def test_has_the_limits_of_descriptors(method: SpawnMethod) -> None:
    shown = printed(
        method, b"/bin/bash", b"-c", b"ulimit -Sn; ulimit -Hn", limits=((NOFILE, 111, 222),)
    )
    assert shown == b"111\n222\n"
    own = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = printed(method, b"/bin/bash", b"-c", b"ulimit -Sn; ulimit -Hn")
    assert shown.split() == [b"%d" % each for each in own]


def test_has_several_limits_and_a_lower_priority(method: SpawnMethod) -> None:
    limits = ((resource.RLIMIT_CPU, 5, 6), (NOFILE, 100, 100))
    words = (b"/bin/bash", b"-c", b"ulimit -St; ulimit -Ht; ulimit -n; nice")
    own = os.nice(0)
    assert printed(method, *words, limits=limits, nice=7).split() == [
        b"5", b"6", b"100", b"%d" % min(19, own + 7)
    ]  # fmt: skip
    # What is added to it ends at the lowest priority.
    assert printed(method, b"/bin/nice", b"-n", b"15", b"/bin/nice", nice=19) == b"19\n"
    assert printed(method, b"/bin/nice", nice=0) == b"%d\n" % own


def test_two_hundred_simultaneous_starts_are_independent(method: SpawnMethod) -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    processes = []
    for number in range(200):
        process = trial(
            b"/bin/bash", b"-c", b'echo "$1 $NAME"', b"bash", b"word%03d" % number,
            environment={b"NAME": b"value%03d" % number}, streams=(NULL, writer, writer),
        )  # fmt: skip
        processes.append(started(method, process))
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        lines = sorted(output.read().splitlines())
    # The lines first: they tell why a process has failed.
    assert lines == [b"word%03d value%03d" % (number, number) for number in range(200)]
    for pid, status in processes:
        assert wait_for_outcome(status) == STARTED
        assert os.waitpid(pid, 0)[1] == 0
        os.close(status)


def test_enters_a_directory_from_the_first_one(method: SpawnMethod, directory: Path) -> None:
    (directory / "in").mkdir()
    handle = os.open(directory, os.O_PATH | os.O_CLOEXEC)
    try:
        for path in (b"in", bytes(directory / "in")):
            assert printed(method, b"/bin/pwd", directory=handle, enter=path) == b"%b/in\n" % bytes(
                directory
            )
        shown = printed(method, b"/bin/pwd", directory=handle, enter=b"/proc/self/cwd")
        assert shown == b"%b\n" % bytes(directory)
    finally:
        os.close(handle)


# Failures


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"directory": NULL}, StartOutcome(SpawnStep.DIRECTORY, errno.ENOTDIR)),
        ({"cgroup": NULL_READER}, StartOutcome(SpawnStep.CGROUP, errno.EBADF)),
        ({"limits": ((NOFILE, 5, 4),)}, StartOutcome(SpawnStep.LIMIT, errno.EINVAL)),
        ({"enter": b"/no/such"}, StartOutcome(SpawnStep.ENTER, errno.ENOENT)),
        ({"enter": b"etc/passwd"}, StartOutcome(SpawnStep.ENTER, errno.ENOTDIR)),
        ({"argv": [b"/no/such"]}, StartOutcome(SpawnStep.EXEC, errno.ENOENT)),
        ({"argv": [b"/etc/passwd/x"]}, StartOutcome(SpawnStep.EXEC, errno.ENOTDIR)),
        ({"argv": [b"/etc"]}, StartOutcome(SpawnStep.EXEC, errno.EACCES)),
        ({"argv": [b"no-such"], "environment": {b"PATH": b"/etc/passwd:/bin"}},
         StartOutcome(SpawnStep.EXEC, errno.ENOENT)),
        ({"argv": [b"passwd"], "environment": {b"PATH": b"/x:/etc:/bin-"}},
         StartOutcome(SpawnStep.EXEC, errno.EACCES)),
    ],
)  # fmt: skip
def test_reports_the_step_that_failed(
    method: SpawnMethod, fields: dict[str, object], outcome: StartOutcome
) -> None:
    files = sorted(os.listdir("/proc/self/fd"))
    assert ended(method, trial(b"/bin/true", **fields)) == (outcome, FAILED)
    assert sorted(os.listdir("/proc/self/fd")) == files


@pytest.mark.parametrize("fields", [{"streams": (NULL, 900, NULL)}, {"script": 900}])
def test_a_fork_reports_descriptors_that_are_not_open(fields: dict[str, object]) -> None:
    outcome = StartOutcome(SpawnStep.DESCRIPTORS, errno.EBADF)
    assert ended(ForkMethod(), trial(b"/bin/true", **fields)) == (outcome, FAILED)


def test_refuses_a_zero_byte(method: SpawnMethod) -> None:
    for process in (
        trial(b"/bin/true", b"a\0b"),
        trial(b"/bin/true", environment={b"NAME": b"a\0b"}),
    ):
        with pytest.raises(ValueError, match="null byte"):
            method.start(process, SpawnResources())


# The parent


def test_changes_nothing_of_its_parent(method: SpawnMethod) -> None:
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
        ended(method, trial(*words, limits=((NOFILE, 100, 100),), nice=3))
    assert own() == before


def test_handles_a_signal_only_after_its_exec(
    method: SpawnMethod, cgroup: Path, procs: int
) -> None:
    """Before its exec, its signal handlers would run in the parent's memory."""
    called = []
    before = signal.signal(signal.SIGUSR1, lambda *_: called.append(1))
    try:
        pid, status = started(method, trial(b"/bin/sleep", b"100", cgroup=procs))
        eventually((cgroup / "cgroup.procs").read_text, "it to stand still")
        os.kill(pid, signal.SIGUSR1)
        (cgroup / "cgroup.freeze").write_text("0")
        assert wait_for_outcome(status) == STARTED
        assert os.waitpid(pid, 0)[1] == signal.SIGUSR1
        os.close(status)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == []


def test_a_stopped_process_does_not_delay_others(
    method: SpawnMethod, cgroup: Path, procs: int
) -> None:
    pid, status = started(method, trial(b"/bin/true", cgroup=procs))
    eventually((cgroup / "cgroup.procs").read_text, "it to stand still")
    for _ in range(100):
        assert ended(method, trial(b"/bin/true")) == (STARTED, 0)
    assert select.select([status], [], [], 0)[0] == []
    (cgroup / "cgroup.freeze").write_text("0")
    assert wait_for_outcome(status) == STARTED
    assert os.waitpid(pid, 0)[1] == 0
    os.close(status)


PARENT = """import os, sys
sys.path[:0] = sys.argv[3:]
from test_start_methods import ForkMethod, started, trial
handle = os.open(sys.argv[1], os.O_WRONLY | os.O_CLOEXEC)
pid, _ = started(ForkMethod(), trial(b"/usr/bin/touch", sys.argv[2].encode(), cgroup=handle))
print(pid, flush=True)
input()"""


def test_a_forked_process_dies_with_its_parent_before_its_exec(
    cgroup: Path, tmp_path: Path
) -> None:
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


# The outcome


def test_an_outcome_is_read_without_waiting() -> None:
    made = SpawnResources()
    status, writer = open_status_pipe(made)
    assert read_outcome(status) is None
    os.write(writer, REPORT.pack(SpawnStep.EXEC, errno.ENOENT))
    assert read_outcome(status) == StartOutcome(SpawnStep.EXEC, errno.ENOENT)
    assert read_outcome(status) is None
    made.close_except(status)
    assert read_outcome(status) == STARTED
    made.close_except()


@pytest.mark.parametrize(
    ("step", "number", "directory", "reason", "retry"),
    [
        ("EXEC", errno.ENOENT, None, "cannot run /x: No such file or directory", False),
        ("EXEC", errno.ENOMEM, None, "cannot run /x: Cannot allocate memory", True),
        ("ENTER", errno.EACCES, "/y",
         "cannot enter working directory /y: Permission denied", False),
        ("DIRECTORY", errno.EIO, "/y", "cannot start the script: Input/output error", False),
        ("DIRECTORY", errno.EIO, None, "cannot start the script: Input/output error", False),
        ("DIRECTORY", errno.EACCES, "private",
         "cannot enter working directory private: Permission denied", False),
        ("USER_CHECK", errno.EPERM, None,
         "cannot prepare the process: user check: Operation not permitted", True),
    ],
)  # fmt: skip
def test_a_failure_is_reported_with_its_reason(
    step: str, number: int, directory: str | None, reason: str, retry: bool
) -> None:
    error = start_failure(StartOutcome(SpawnStep[step], number), "/x", directory)
    assert (str(error), error.retry) == (reason, retry)
