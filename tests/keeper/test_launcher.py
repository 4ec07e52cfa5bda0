"""The launcher by itself: it execs the program with all options applied or reports a failure."""

import errno
import json
import os
import pty
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scriptservice.keeper.spawn.exec_failure import SpawnStep
from scriptservice.keeper.tree.cgroup import own_cgroup
from support.launcher import FAILED, PROGRAM, launch, printed, status_of
from support.needs import require
from support.refusing import refusing

pytestmark = pytest.mark.needs_compiler

CLOSED = 900
"""A descriptor that is not open in any launcher."""

SHOW_FILES = """import json, os
found = {}
for name in os.listdir("/proc/self/fd"):
    try:
        found[name] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass  # the listing's own
print(json.dumps(found))"""
SHOW_IDS = """import os
print(os.getpid() == os.getpgid(0) == os.getsid(0), open("/proc/self/stat").read().split()[6])"""


# The program itself


def test_is_a_small_static_program_without_file_capabilities() -> None:
    status = PROGRAM.stat()
    assert stat.S_IMODE(status.st_mode) == 0o755
    headers = subprocess.run(
        ["readelf", "--program-headers", "--wide", PROGRAM], check=True, capture_output=True
    ).stdout.decode()
    assert "INTERP" not in headers
    assert "DYNAMIC" not in headers
    assert "RWE" not in headers
    assert "GNU_STACK" in headers
    assert "security.capability" not in os.listxattr(PROGRAM)


# Arguments


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--unknown"], errno.EINVAL),
        ([""], errno.EINVAL),
        (["-"], errno.EINVAL),
        (["/bin/true"], errno.EINVAL),
        (["--no-new-privilege"], errno.EINVAL),
        (["--no-new-privileges="], errno.EINVAL),
        (["--no-new-privileges", "--no-new-privileges"], errno.EEXIST),
        (["--terminal=0"], errno.EINVAL),
        (["--terminal", "--terminal"], errno.EEXIST),
        (["--status=5"], errno.EINVAL),
        (["--directory"], errno.EINVAL),
        (["--directory="], errno.EINVAL),
        (["--directory=-1"], errno.EINVAL),
        (["--directory=+5"], errno.EINVAL),
        (["--directory= 5"], errno.EINVAL),
        (["--directory=5 "], errno.EINVAL),
        (["--directory=0x5"], errno.EINVAL),
        (["--directory=5:6"], errno.EINVAL),
        (["--directory=0"], errno.EBADF),
        (["--directory=2"], errno.EBADF),
        (["--directory=63"], errno.EBADF),
        (["--directory=2147483648"], errno.ERANGE),
        (["--directory=18446744073709551621"], errno.ERANGE),
        (["--directory=5", "--directory=5"], errno.EEXIST),
        (["--cgroup="], errno.EINVAL),
        (["--cgroup=1"], errno.EBADF),
        (["--cgroup=4294967296"], errno.ERANGE),
        (["--cgroup=5", "--cgroup=5"], errno.EEXIST),
        (["--limit="], errno.EINVAL),
        (["--limit=7"], errno.EINVAL),
        (["--limit=7:1"], errno.EINVAL),
        (["--limit=7:1:"], errno.EINVAL),
        (["--limit=7::1"], errno.EINVAL),
        (["--limit=7:1:1:1"], errno.EINVAL),
        (["--limit=7:-1:-1"], errno.EINVAL),
        (["--limit=16:1:1"], errno.ERANGE),
        (["--limit=7:18446744073709551616:1"], errno.ERANGE),
        (["--limit=7:1:99999999999999999999999999"], errno.ERANGE),
        (["--limit=7:64:64"] * 17, errno.E2BIG),
        (["--nice="], errno.EINVAL),
        (["--nice=-1"], errno.EINVAL),
        (["--nice=20"], errno.ERANGE),
        (["--nice=1", "--nice=1"], errno.EEXIST),
        (["--user="], errno.EINVAL),
        (["--user=1000"], errno.EINVAL),
        (["--user=1000:"], errno.EINVAL),
        (["--user=1000:1000"], errno.EINVAL),
        (["--user=1000:1000:x"], errno.EINVAL),
        (["--user=1000:1000:1,"], errno.EINVAL),
        (["--user=1000:1000:,1"], errno.EINVAL),
        (["--user=1000:1000:1,,2"], errno.EINVAL),
        (["--user=1000:1000:1:2"], errno.EINVAL),
        (["--user=root:root:"], errno.EINVAL),
        (["--user=0:0:"], errno.EPERM),
        (["--user=4294967295:1000:"], errno.ERANGE),
        (["--user=1000:4294967295:"], errno.ERANGE),
        (["--user=1000:1000:4294967295"], errno.ERANGE),
        (["--user=4294967296:1000:"], errno.ERANGE),
        (["--user=18446744073709552616:1000:"], errno.ERANGE),
        (["--user=1000:1000:", "--user=1000:1000:"], errno.EEXIST),
        (["--path=/bin", "--path=/bin"], errno.EEXIST),
        (["--enter=/", "--enter=/"], errno.EEXIST),
        (["--enter"], errno.EINVAL),
    ],
)
def test_wrong_arguments_are_refused(words: list[str], error: int) -> None:
    ended = launch(*words)
    assert ended.report == (SpawnStep.ARGUMENTS, error)
    assert ended.code == FAILED


def test_requires_a_program() -> None:
    assert launch(program=[]).report == (SpawnStep.ARGUMENTS, errno.EINVAL)


def test_requires_two_dashes_before_the_program() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as report:
        done = subprocess.run([PROGRAM, f"--status={writer}"], pass_fds=[writer], check=False)
        os.close(writer)
        assert report.read() == bytes([SpawnStep.ARGUMENTS, 0, 0, 0, errno.EINVAL, 0, 0, 0])
    assert done.returncode == FAILED


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--"],
        ["--", "/bin/echo", "ran"],
        ["/bin/echo", "ran"],
        ["--terminal", "--status=1", "--", "/bin/echo", "ran"],
        *([f"--status={value}", "--", "/bin/echo", "ran"] for value in (
            "", "x", "1", "2", "63", "-1", "2147483648", "9999999999999999999999", f"{CLOSED} ",
        )),
    ],
)  # fmt: skip
def test_exits_silently_without_a_status(words: list[str]) -> None:
    done = subprocess.run([PROGRAM, *words], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (FAILED, b"", b"")


def test_exits_without_any_argument() -> None:
    pid = os.posix_spawn(str(PROGRAM), ["x"], {})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == FAILED


WORDS = st.one_of(
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(
            ["--status=", "--cgroup=", "--directory=", "--limit=", "--nice=", "--user=",
             "--path=", "--enter=", "--",
             "--terminal", "--no-new-privileges"]
        ),
        st.from_regex(r"[0-9:,/-]{0,24}", fullmatch=True),
        st.sampled_from(["", ":", ",", "\n"]),
    ),
)  # fmt: skip


@settings(max_examples=300)
@given(st.lists(WORDS, max_size=6))
def test_exits_cleanly_with_any_arguments(words: list[str]) -> None:
    ended = launch(*words, program=["/bin/echo", "ran"])
    if ended.report is None:
        # An earlier "--" made another word the program, or all arguments were valid.
        assert ended.code == 0 or "--" in words
    else:
        assert ended.code == FAILED
        assert ended.output == b""


# Exec


def file_with(path: Path, content: str, mode: int) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_reports_the_errno_of_exec(directory: Path) -> None:
    program = file_with(directory / "text", "echo x\n", 0o755)
    closed = file_with(directory / "closed", "#!/bin/sh\n", 0o644)
    (directory / "loop").symlink_to("loop")
    expected = {
        "/no/such/program": errno.ENOENT,
        "no-slash": errno.ENOENT,
        "": errno.ENOENT,
        "/etc": errno.EACCES,
        closed: errno.EACCES,
        program: errno.ENOEXEC,
        "/etc/passwd/x": errno.ENOTDIR,
        str(directory / "loop"): errno.ELOOP,
        "/" + "x" * 300: errno.ENAMETOOLONG,
        "/x" * 3000: errno.ENAMETOOLONG,
        file_with(directory / "bad", "#!/no/such/interpreter\n", 0o755): errno.ENOENT,
    }
    for name, error in expected.items():
        ended = launch(program=[name])
        assert ended.report == (SpawnStep.EXEC, error), name
        assert ended.code == FAILED


def test_reports_a_program_that_is_being_written(directory: Path) -> None:
    program = file_with(directory / "busy", "#!/bin/sh\n", 0o755)
    with open(program, "a"):
        assert launch(program=[program]).report == (SpawnStep.EXEC, errno.ETXTBSY)


def test_reports_too_many_arguments(directory: Path) -> None:
    # The limit is a quarter of the stack's limit, which the launcher's own start does not exceed.
    small = f"--limit={resource.RLIMIT_STACK}:{128 << 10}:{128 << 10}"
    ended = launch(small, program=["/bin/true", *["x" * 50_000] * 5])
    assert ended.report == (SpawnStep.EXEC, errno.E2BIG)


def test_passes_arguments_and_environment_unchanged() -> None:
    words = ["--user=0:0:", "--", "", "a b", "\n", b"\xff\xfe", "--status=1", "x" * 100_000]
    show = "import os, sys; sys.stdout.buffer.write(repr(sys.argv[1:]).encode())"
    python = [sys.executable, "-I", "-c", show]
    found = launch(program=[*python, *words])
    plain = subprocess.run([*python, *words], check=True, capture_output=True)
    assert found.report is None
    assert found.output == plain.stdout
    env = {"PATH": "", "A": "1", "B": "", "STATUS": "--status=1"}
    text = printed(program=["/usr/bin/env", "-0"], env=env)
    assert text == "".join(f"{name}={value}\0" for name, value in env.items())
    assert printed(program=["/usr/bin/env"], env={}) == ""


def test_leaves_standard_input_unread(directory: Path) -> None:
    text = "".join(f"{n}\n" for n in range(1000))
    with open(file_with(directory / "in", text, 0o644)) as stdin:
        assert printed(program=["/bin/cat"], stdin=stdin) == text


# The search for a program without a slash


def test_searches_the_path_in_order(directory: Path) -> None:
    for name in ("first", "second"):
        (directory / name).mkdir()
        file_with(directory / name / "tool", f"#!/bin/sh\necho {name}\n", 0o755)
    path = f"--path=/no/such:/etc/passwd:{directory}/second:{directory}/first"
    assert printed(path, program=["tool"]) == "second\n"
    assert printed(f"--path={directory}/first/", program=["tool"]) == "first\n"
    # An empty entry is the working directory.
    for path in ("--path=", "--path=:/no/such", "--path=/no/such:", "--path=/no::/such"):
        assert printed(path, program=["tool"], cwd=directory / "first") == "first\n"
    # A program with a slash is not searched for, and the PATH of the environment is not used.
    assert launch(path, program=["./tool"], cwd=directory).report == (SpawnStep.EXEC, errno.ENOENT)
    env = {"PATH": f"{directory}/first"}
    assert launch("--path=/bin", program=["tool"], env=env).report == (SpawnStep.EXEC, errno.ENOENT)
    assert launch(program=["tool"], env=env).report == (SpawnStep.EXEC, errno.ENOENT)


def test_reports_the_first_other_error_on_the_path(directory: Path) -> None:
    for name in ("closed", "open", "text"):
        (directory / name).mkdir()
    file_with(directory / "closed" / "tool", "#!/bin/sh\n", 0o644)
    file_with(directory / "text" / "tool", "text\n", 0o755)
    file_with(directory / "open" / "tool", "#!/bin/sh\necho ran\n", 0o755)
    closed, text = f"{directory}/closed", f"{directory}/text"
    assert printed(f"--path={closed}:{directory}/open", program=["tool"]) == "ran\n"
    for path, error in (
        (f"{closed}:/no/such", errno.EACCES),
        (f"/no/such:{closed}", errno.EACCES),
        (f"{text}:{closed}", errno.ENOEXEC),
        (f"{closed}:{text}", errno.EACCES),
        ("/no/such:/etc/passwd", errno.ENOENT),
        ("/" + "x" * 5000, errno.ENAMETOOLONG),
        ("/" + "x" * 4095, errno.ENAMETOOLONG),
        ("/x" * 2045, errno.ENOENT),  # with "/tool" and its end just a path
        ("/x" * 2044 + "/yy", errno.ENAMETOOLONG),
        (f"{'/x' * 5000}:/no/such", errno.ENAMETOOLONG),
    ):
        report = launch(f"--path={path}", program=["tool"]).report
        assert report == (SpawnStep.EXEC, error), path[:40]


# What every script gets


def test_leads_its_own_session_without_a_terminal() -> None:
    assert printed(program=[sys.executable, "-c", SHOW_IDS]) == "True 0\n"


def test_reports_that_it_leads_a_session_already() -> None:
    ended = launch(start_new_session=True)
    assert ended.report == (SpawnStep.SESSION, errno.EPERM)


def test_takes_its_controlling_terminal() -> None:
    controller, terminal = pty.openpty()
    try:
        show = (
            "import os; print(os.getpid() == os.tcgetpgrp(0), os.ttyname(os.open('/dev/tty', 0)))"
        )
        words = [sys.executable, "-c", show]
        assert printed("--terminal", program=words, stdin=terminal) == "True /dev/tty\n"
        # It does not without the option.
        ended = launch(
            program=["/bin/sh", "-c", ": </dev/tty"], stdin=terminal, stderr=subprocess.DEVNULL
        )
        assert ended.report is None
        assert ended.code != 0
    finally:
        os.close(terminal)
        os.close(controller)


def test_reports_a_descriptor_that_is_not_a_terminal() -> None:
    assert launch("--terminal").report == (SpawnStep.TERMINAL, errno.ENOTTY)


def ignore_and_block_all() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def test_resets_and_unblocks_all_signals() -> None:
    before = subprocess.run(
        ["/bin/cat", "/proc/self/status"],
        check=True,
        capture_output=True,
        preexec_fn=ignore_and_block_all,
        restore_signals=False,
    ).stdout.decode()
    for name in ("SigIgn", "SigBlk"):
        assert int(before.partition(f"{name}:")[2].split()[0], 16).bit_count() > 50, name
    status = status_of(preexec_fn=ignore_and_block_all, restore_signals=False)
    for name in ("SigIgn", "SigBlk", "SigCgt", "SigPnd", "ShdPnd"):
        assert int(status[name], 16) == 0, name


def test_a_pipe_without_a_reader_ends_a_script() -> None:
    done = printed(program=["/bin/bash", "-c", "yes | head -1; echo ${PIPESTATUS[0]}"])
    assert done == f"y\n{128 + signal.SIGPIPE}\n"


def test_sets_the_umask() -> None:
    assert status_of(umask=0o022)["Umask"] == "0077"


def test_passes_only_the_scripts_descriptors() -> None:
    files = [os.open("/etc/hostname", os.O_RDONLY) for _ in range(3)]
    high = os.dup2(files[0], 1000)
    last = os.dup2(files[0], 63)
    work = os.open("/", os.O_PATH)
    try:
        shown = printed(
            f"--directory={work}",
            program=[sys.executable, "-I", "-c", SHOW_FILES],
            files=[*files, high, last, work],
        )
    finally:
        for each in (*files, high, last, work):
            os.close(each)
    found = json.loads(shown)
    assert set(found) == {"0", "1", "2", "63"}
    assert found["63"] == "/etc/hostname"


# Options


def test_enters_the_directory(directory: Path) -> None:
    (directory / "in").mkdir()
    handle = os.open(directory / "in", os.O_PATH | os.O_DIRECTORY)
    try:
        words = ["/bin/pwd"]
        assert (
            printed(f"--directory={handle}", program=words, files=[handle]) == f"{directory}/in\n"
        )
    finally:
        os.close(handle)


def test_enters_a_path_from_the_directory(directory: Path) -> None:
    (directory / "in").mkdir()
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        for path in ("in", f"{directory}/in", "/proc/self/cwd/in", "/proc/thread-self/cwd/in/."):
            options = [f"--directory={handle}", f"--enter={path}"]
            shown = printed(*options, program=["/bin/pwd"], files=[handle])
            assert shown == f"{directory}/in\n", path
    finally:
        os.close(handle)


def test_reports_a_path_that_cannot_be_entered(directory: Path) -> None:
    (directory / "loop").symlink_to("loop")
    expected = {
        "": errno.ENOENT,
        "/no/such": errno.ENOENT,
        "/etc/passwd": errno.ENOTDIR,
        f"{directory}/loop": errno.ELOOP,
        "/" + "x" * 300: errno.ENAMETOOLONG,
        "/x" * 2048: errno.ENAMETOOLONG,
    }
    for path, error in expected.items():
        assert launch(f"--enter={path}").report == (SpawnStep.ENTER, error), path[:40]


def test_reports_a_directory_that_cannot_be_entered(directory: Path) -> None:
    handle = os.open("/etc/passwd", os.O_PATH)
    try:
        ended = launch(f"--directory={handle}", files=[handle])
    finally:
        os.close(handle)
    assert ended.report == (SpawnStep.DIRECTORY, errno.ENOTDIR)
    assert launch(f"--directory={CLOSED}").report == (SpawnStep.DIRECTORY, errno.EBADF)


@pytest.fixture
def cgroup() -> Iterator[Path]:
    require("cgroup")
    own = own_cgroup()
    assert own is not None, "no cgroup2 is mounted"
    path = Path(own) / f"scriptservice-test-{uuid4()}"
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


def test_enters_the_cgroup(cgroup: Path) -> None:
    handle = os.open(cgroup / "cgroup.procs", os.O_WRONLY)
    try:
        shown = printed(
            f"--cgroup={handle}", program=["/bin/cat", "/proc/self/cgroup"], files=[handle]
        )
    finally:
        os.close(handle)
    assert cgroup.name in shown
    assert cgroup.name not in Path("/proc/self/cgroup").read_text()


def test_reports_a_cgroup_that_cannot_be_entered(cgroup: Path) -> None:
    assert launch(f"--cgroup={CLOSED}").report == (SpawnStep.CGROUP, errno.EBADF)
    gone = os.open(cgroup / "cgroup.procs", os.O_WRONLY)
    reading = os.open("/dev/zero", os.O_RDONLY)
    full = os.open("/dev/full", os.O_WRONLY)
    cgroup.rmdir()
    try:
        for handle, error in ((gone, errno.ENODEV), (reading, errno.EBADF), (full, errno.ENOSPC)):
            ended = launch(f"--cgroup={handle}", files=[handle])
            assert ended.report == (SpawnStep.CGROUP, error)
            assert ended.code == FAILED
    finally:
        for handle in (gone, reading, full):
            os.close(handle)


def test_sets_limits() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    options = [
        f"--limit={resource.RLIMIT_NOFILE}:100:{hard}",
        f"--limit={resource.RLIMIT_CORE}:0:0",
    ]
    assert printed(*options, program=["/bin/bash", "-c", "ulimit -n; ulimit -c"]) == "100\n0\n"
    endless = f"--limit={resource.RLIMIT_CPU}:{2**64 - 1}:{2**64 - 1}"
    assert printed(endless, program=["/bin/bash", "-c", "ulimit -t"]) == "unlimited\n"


def test_reports_an_invalid_limit() -> None:
    above = f"--limit={resource.RLIMIT_CORE}:2:1"
    assert launch(above).report == (SpawnStep.LIMIT, errno.EINVAL)


def test_forbids_new_privileges() -> None:
    assert status_of("--no-new-privileges")["NoNewPrivs"] == "1"
    assert f"NoNewPrivs:\t{status_of()['NoNewPrivs']}" in Path("/proc/self/status").read_text()


# Another user


@pytest.mark.needs_root
@pytest.mark.parametrize("groups", ["", "59999", "7,100,4294967294"])
def test_changes_the_user_for_good(groups: str) -> None:
    status = status_of(f"--user=59999:59998:{groups}")
    assert status["Uid"].split() == ["59999"] * 4
    assert status["Gid"].split() == ["59998"] * 4
    assert status["Groups"].split() == (groups.split(",") if groups else [])
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    for call in ("setuid(0)", "setgid(0)", "setgroups([0])"):
        words = ["/usr/bin/python3", "-c", f"import os; os.{call}"]
        ended = launch(f"--user=59999:59998:{groups}", program=words, stderr=subprocess.DEVNULL)
        assert (ended.report, ended.code) == (None, 1), call


def test_keeps_the_user_without_the_option() -> None:
    status = status_of()
    assert status["Uid"].split() == [str(os.geteuid())] * 4
    assert status["Gid"].split() == [str(os.getegid())] * 4


@pytest.mark.needs_root
def test_sets_many_groups() -> None:
    groups = list(range(100_000, 118_000))
    shown = printed(
        f"--user=59999:59999:{','.join(map(str, groups))}",
        program=["/usr/bin/python3", "-c", "import os; print(len(os.getgroups()))"],
    )
    assert int(shown) == len(groups)


@pytest.mark.needs_root
def test_accepts_the_largest_ids() -> None:
    status = status_of("--user=4294967294:4294967294:4294967294")
    assert status["Uid"].split() == ["4294967294"] * 4
    assert status["Gid"].split() == ["4294967294"] * 4


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("missing", "step"), [("setgid", SpawnStep.GROUPS), ("setuid", SpawnStep.USER)]
)
def test_fails_without_the_capability_for_a_step(missing: str, step: SpawnStep) -> None:
    under = ["setpriv", f"--bounding-set=-{missing}", "--"]
    ended = launch("--user=59999:59999:", program=["/bin/echo", "ran"], under=under)
    assert ended.report == (step, errno.EPERM)
    assert (ended.code, ended.output) == (FAILED, b"")


@pytest.mark.needs_root
def test_cannot_change_the_user_without_root() -> None:
    ended = launch("--user=59998:59998:", user=59999, group=59999, extra_groups=[])
    assert ended.report == (SpawnStep.GROUPS, errno.EPERM)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    more = f"--limit={resource.RLIMIT_NOFILE}:1:{hard + 1}"
    ended = launch(more, user=59999, group=59999, extra_groups=[])
    assert ended.report == (SpawnStep.LIMIT, errno.EPERM)


@pytest.mark.needs_root
def test_drops_capabilities_in_spite_of_securebits() -> None:
    """With these bits the kernel keeps all capabilities when root changes its user."""
    under = [
        "setpriv", "--securebits=+no_setuid_fixup", "--inh-caps=+kill,+setuid",
        "--ambient-caps=+kill,+setuid", "--",
    ]  # fmt: skip
    kept = subprocess.run(
        [*under, "setpriv", "--reuid=59999", "--clear-groups", "cat", "/proc/self/status"],
        check=True,
        capture_output=True,
    ).stdout.decode()
    assert "CapAmb:\t0000000000000000" not in kept
    status = status_of("--user=59999:59999:", under=under)
    assert status["Uid"].split() == ["59999"] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name


@pytest.mark.needs_root
def test_enters_the_directory_before_the_user_changes(directory: Path) -> None:
    """A script may have taken away its user's access to the directory."""
    inside = directory / "in"
    inside.mkdir()
    inside.chmod(0)
    handle = os.open(inside, os.O_PATH)
    try:
        shown = printed(
            f"--directory={handle}",
            "--user=59999:59999:",
            program=["/usr/bin/readlink", "/proc/self/cwd"],
            files=[handle],
        )
    finally:
        os.close(handle)
    assert shown == f"{inside}\n"


@pytest.mark.needs_root
def test_enters_the_path_after_the_user_has_changed(directory: Path) -> None:
    closed = directory / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "open").chmod(0o755)
    own = directory / "own"
    own.mkdir(mode=0o700)
    os.chown(own, 59999, 59999)
    user = "--user=59999:59999:"
    for path in (closed, closed / "open", f"/proc/{os.getpid()}/cwd"):
        ended = launch(user, f"--enter={path}", program=["/bin/echo", "ran"])
        assert ended.report == (SpawnStep.ENTER, errno.EACCES), path
        assert ended.output == b""
    assert printed(user, f"--enter={own}", program=["/bin/pwd"]) == f"{own}\n"


def test_stops_at_the_first_failure(directory: Path) -> None:
    program = ["/bin/touch", str(directory / "ran")]
    for options in (
        ["--terminal"],
        [f"--cgroup={CLOSED}"],
        [f"--directory={CLOSED}"],
        ["--enter=/no/such"],
    ):
        assert launch(*options, program=program).code == FAILED
    assert list(directory.iterdir()) == []


# A seccomp filter that refuses system calls, or answers that they succeeded without running them


@pytest.mark.needs_root
@pytest.mark.parametrize(
    ("answers", "step", "error"),
    [
        ({"setresgid": errno.EPERM}, SpawnStep.GROUP, errno.EPERM),
        ({"setresuid": errno.EAGAIN}, SpawnStep.USER, errno.EAGAIN),
        ({"capset": errno.EPERM}, SpawnStep.CAPABILITIES, errno.EPERM),
        ({"setresgid": 0}, SpawnStep.USER_CHECK, errno.EPERM),
        ({"setresuid": 0}, SpawnStep.USER_CHECK, errno.EPERM),
        ({"setresuid": (0, 0)}, SpawnStep.USER_CHECK, errno.EPERM),  # only the way back
        ({"prctl": errno.EPERM}, SpawnStep.PRIVILEGES, errno.EPERM),
        ({"rt_sigprocmask": errno.EINVAL}, SpawnStep.SIGNALS, errno.EINVAL),
        (
            {"close_range": errno.ENOSYS, "fcntl": errno.EPERM},
            SpawnStep.DESCRIPTORS,
            errno.EPERM,
        ),
    ],
)
def test_runs_nothing_after_a_refusal(
    answers: dict[str, int | tuple[int, int]], step: SpawnStep, error: int
) -> None:
    options = ["--user=59999:59999:", "--no-new-privileges"]
    ended = launch(*options, program=["/bin/echo", "ran"], preexec_fn=refusing(**answers))
    assert ended.report == (step, error)
    assert (ended.code, ended.output) == (FAILED, b"")


def test_closes_all_foreign_descriptors_on_older_kernels() -> None:
    """Before Linux 5.9 it closes what /proc lists, also more than one read of the list returns."""
    files = [os.dup2(0, number) for number in range(100, 500)]
    work = os.open("/", os.O_PATH)
    try:
        shown = printed(
            f"--directory={work}",
            program=[sys.executable, "-I", "-c", SHOW_FILES],
            files=[*files, work],
            preexec_fn=refusing(close_range=errno.ENOSYS),
        )
    finally:
        for each in (*files, work):
            os.close(each)
    assert set(json.loads(shown)) == {"0", "1", "2"}


def test_closes_its_own_descriptors_if_it_cannot_list_them() -> None:
    work = os.open("/", os.O_PATH)
    procs = os.open(os.devnull, os.O_WRONLY)
    show = f"for n in {work} {procs}; do [ -e /proc/self/fd/$n ] && echo $n; done; true"
    try:
        shown = printed(
            f"--directory={work}",
            f"--cgroup={procs}",
            program=["/bin/bash", "-c", show],
            files=[work, procs],
            preexec_fn=refusing(close_range=errno.ENOSYS, getdents64=errno.ENOSYS),
        )
    finally:
        os.close(work)
        os.close(procs)
    assert shown == ""
